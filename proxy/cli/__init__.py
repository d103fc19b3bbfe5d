"""The `understudy` command, a module per command. Errors are one line and an exit status; tables fit 80 columns."""

from __future__ import annotations

import sys

from proxy.cli.main import app
from proxy.errors import UnderstudyError
from storage.errors import StorageError


def main() -> None:
    """The entry point."""
    try:
        app(standalone_mode=True)
    except (UnderstudyError, StorageError) as error:
        sys.stderr.write(f"understudy: {error}\n")
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(0)


__all__ = ["main"]
