"""Write the dashboards."""

from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana import operations, quality, savings

FOLDER = Path(__file__).parent / "dashboards"


def written() -> dict[str, str]:
    """File name → its text."""
    made: list[Dashboard] = [savings.dashboard(), quality.dashboard(), operations.dashboard()]
    boards = [builder.build() for builder in made]
    for board in boards:
        for number, panel in enumerate(board.panels or [], start=1):
            panel.id_val = number
    return {
        f"{board.uid.removeprefix('understudy-')}.json": JSONEncoder(sort_keys=True, indent=2).encode(board) + "\n"
        for board in boards
        if board.uid is not None
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in written().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
