"""Alembic at work. Imported only where a schema is not the newest."""

from __future__ import annotations

import threading

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection

from storage.cipher import Cipher
from storage.migrations import HERE, SchemaUnknown

_ONE_AT_A_TIME = threading.Lock()  # Alembic's context is a global of its module


def upgrade(connection: Connection, cipher: Cipher) -> None:
    """Take all steps that a database lacks, in the transaction that is open.

    Args:
        cipher: what an earlier version has encrypted may have to be put into another form.

    Raises:
        SchemaUnknown: it has come to none of them.
    """
    config = Config()
    config.set_main_option("script_location", str(HERE))
    config.attributes |= {"connection": connection, "cipher": cipher}
    try:
        with _ONE_AT_A_TIME:
            command.upgrade(config, "head")
    except CommandError as error:
        raise SchemaUnknown(str(error)) from error
