"""Who gets into the admin API."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from proxy.auth import TOKEN_FILE, Gate, Role, admin_token, bearer_token
from proxy.errors import DataDirUnusable, Unauthorized
from proxy.settings import Settings, load_settings


def settings_in(data_dir: Path, **values: str) -> Settings:
    return load_settings({}, data_dir=data_dir, **values)


def test_a_token_is_made_on_the_first_start_and_kept_for_its_owner_alone(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "data")
    token, fresh = admin_token(settings)
    file = tmp_path / "data" / TOKEN_FILE
    assert fresh
    assert len(token) >= 32
    assert file.read_text().strip() == token
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert admin_token(settings) == (token, False)
    assert [path.name for path in file.parent.iterdir()] == [TOKEN_FILE]


def test_a_configured_token_wins_and_is_not_written_down(tmp_path: Path) -> None:
    assert admin_token(settings_in(tmp_path, admin_token="mine")) == ("mine", False)
    assert list(tmp_path.iterdir()) == []


def test_callers_that_start_together_agree_on_one_token(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: admin_token(settings_in(tmp_path)), range(8)))
    assert len({token for token, _ in found}) == 1


def test_an_empty_token_file_lets_nobody_in(tmp_path: Path) -> None:
    (tmp_path / TOKEN_FILE).touch()
    with pytest.raises(DataDirUnusable, match="is empty"):
        admin_token(settings_in(tmp_path))


@pytest.mark.parametrize(
    ("header", "token"),
    [("Bearer abc", "abc"), ("bearer  abc ", "abc"), ("Basic abc", None), ("Bearer ", None), ("", None), (None, None)],
)
def test_the_token_is_what_follows_bearer(header: str | None, token: str | None) -> None:
    assert bearer_token(header) == token


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer wrong", "Basic right", "Bearer rïght"])
def test_anything_but_the_token_is_refused(header: str | None) -> None:
    with pytest.raises(Unauthorized) as caught:
        Gate("right").enter(header, Role.VIEWER)
    assert caught.value.status == 401


def test_the_token_opens_everything() -> None:
    assert Gate("right").enter("Bearer right", Role.ADMIN).role is Role.ADMIN
    assert Role.VIEWER < Role.OPERATOR < Role.ADMIN
