"""Alembic's steps from an empty database to `models.py`, one file each under `versions/`."""
