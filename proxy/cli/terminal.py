"""What commands share: the console, the options that many have, the database opened for work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from proxy.settings import Settings

if TYPE_CHECKING:
    from storage.cipher import Cipher
    from storage.database import Database

console = Console(highlight=False, soft_wrap=False)
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def open_log(settings: Settings) -> tuple[Database, Cipher]:
    """The call log of a data directory, made where there is none, its schema up to date.

    Raises:
        DataDirUnusable, KeyFileUnusable, DatabaseDown: in this order; a database is worth nothing without its key.
    """
    from proxy.supervisor import prepare_data_dir
    from storage.cipher import Cipher
    from storage.database import Database

    prepare_data_dir(settings.data_dir)
    cipher = Cipher.open(settings.data_dir)
    database = Database(settings.database)
    database.upgrade()
    return database, cipher
