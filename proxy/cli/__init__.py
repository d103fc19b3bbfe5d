"""The `understudy` command, a module per command. Errors are one line and an exit status; tables fit 80 columns.

Nothing is imported before `main` runs: the workers of `understudy serve` come through here when they are spawned, and
have no use for a command line.
"""

from __future__ import annotations

import sys


def main() -> None:
    """The entry point."""
    from typer import Abort, TyperException

    from proxy.cli.main import app
    from proxy.errors import UnderstudyError
    from storage.errors import StorageError

    try:
        sys.exit(app(prog_name="understudy", standalone_mode=False))
    except BrokenPipeError:
        sys.exit(0)
    except TyperException as error:
        said = error.format_message()
        if said.startswith("Usage:"):  # nothing was asked for: the help
            sys.stderr.write(f"{said}\n")
        else:
            said = " ".join(said.split()).rstrip(".")  # choices come one a line
            sys.stderr.write(f"understudy: {said}; --help explains\n")
        sys.exit(2)
    except Abort:
        sys.stderr.write("understudy: aborted\n")
        sys.exit(1)
    except (UnderstudyError, StorageError, OSError) as error:
        sys.stderr.write(f"understudy: {error}\n")
        sys.exit(1)
