"""The README's tables say what the code does."""

import re
from pathlib import Path

from proxy.metrics import Metrics
from proxy.settings import PREFIX, Settings

README = (Path(__file__).parent.parent / "README.md").read_text()


def names(section: str) -> set[str]:
    text = README.split(f"## {section}\n", 1)[1].split("\n## ", 1)[0]
    return set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))


def test_every_setting_is_in_the_table_and_no_other() -> None:
    assert names("Settings") == {PREFIX + name.upper() for name in Settings.model_fields}


def test_every_metric_is_in_the_table_and_no_other() -> None:
    collected = Metrics(lambda: (0, 0.0)).registry.collect()
    declared = {family.name + ("_total" if family.type == "counter" else "") for family in collected}
    assert names("Metrics") == declared | {"understudy_spool_bytes", "understudy_spool_oldest_seconds"}
