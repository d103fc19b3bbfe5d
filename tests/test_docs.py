"""The manual says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from docs.reference import PATH, reference
from proxy.cli.main import app
from proxy.settings import PREFIX, Settings

ROOT = PATH.parent.parent
PAGES = sorted([*PATH.parent.glob("*.md"), ROOT / "README.md"])
_SET_ELSEWHERE = {"UNDERSTUDY_CONFIG"}


def test_the_reference_is_fresh() -> None:
    assert PATH.read_text() == reference(), "stale: run `python -m docs`"


def test_every_header_of_our_own_is_in_the_reference() -> None:
    """And no other: what the sources name in literals is what there is."""
    sources = [path.read_text() for path in (ROOT / "proxy").rglob("*.py")]
    named = {name for text in sources for name in re.findall(r"x-understudy-[a-z-]*[a-z]", text)}
    assert set(re.findall(r"`(x-understudy-[a-z-]+)` \|", PATH.read_text())) == named


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_setting_and_link_on_a_page_is_there(page: Path) -> None:
    text = page.read_text()
    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    assert set(re.findall(r"(?:`|^|/v1 )understudy (\w[\w-]*)", text, re.MULTILINE)) <= commands
    settings = {PREFIX + name.upper() for name in Settings.model_fields} | _SET_ELSEWHERE
    assert set(re.findall(r"\bUNDERSTUDY_[A-Z_]*[A-Z]\b", text)) <= settings
    for target, anchor in re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]*))?\)", text):
        linked = page.parent / target if target else page
        assert linked.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


def test_every_page_is_in_the_contents() -> None:
    contents = (PATH.parent / "README.md").read_text()
    assert all(f"({page.name})" in contents for page in PAGES if page.name != "README.md")
