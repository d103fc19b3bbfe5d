"""What commands share: the console, the options that many have, the database opened for work."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from proxy.settings import Settings

if TYPE_CHECKING:
    from storage.cipher import Cipher
    from storage.database import Database

PROGRESS_SECONDS = 5.0

console = Console(highlight=False, soft_wrap=False)
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@contextmanager
def progress(stage: str) -> Iterator[Callable[[str], None]]:
    """Show what long work is at, until the end of the block.

    On a terminal one line changes; elsewhere (a log file, a pipe) lines go to standard error: each stage that is told,
    and how far it is every few seconds.

    Args:
        stage: what a terminal shows from the beginning. Bad input mostly shows at once, and is to be the only line.

    Returns:
        Takes what to show: `stage`, or `stage: how far`.
    """
    if console.is_terminal:
        with console.status(stage) as status:
            yield status.update
        return
    shown, shown_at = "", 0.0

    def tell(text: str) -> None:
        nonlocal shown, shown_at
        begun = text.partition(":")[0]
        if begun != shown or time.monotonic() - shown_at >= PROGRESS_SECONDS:
            shown, shown_at = begun, time.monotonic()
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()

    yield tell


def open_data_dir(settings: Settings) -> Cipher:
    """The data directory, made where there is none and closed to other users, and its key.

    Raises:
        DataDirUnusable, KeyFileUnusable: in this order.
    """
    from proxy.supervisor import prepare_data_dir
    from storage.cipher import Cipher
    from storage.privacy import keep_private

    prepare_data_dir(settings.data_dir)
    try:
        keep_private(settings.data_dir)
    except OSError as error:
        sys.stderr.write(
            f"understudy: warning: UNDERSTUDY_DATA_DIR={settings.data_dir}: other users may read it, and its modes "
            f"can't be changed: {error.strerror}\n"
        )
    return Cipher.open(settings.data_dir)


def open_log(settings: Settings) -> tuple[Database, Cipher]:
    """The call log of a data directory, made where there is none, its schema up to date.

    Raises:
        DataDirUnusable, KeyFileUnusable, DatabaseDown: in this order; a database is worth nothing without its key.
    """
    from storage.database import Database

    cipher = open_data_dir(settings)
    database = Database(settings.database)
    database.upgrade(cipher)
    return database, cipher
