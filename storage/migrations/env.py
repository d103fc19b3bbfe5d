"""Run by Alembic with the connection that `Database.upgrade` holds."""

from alembic import context

from storage.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite can't alter tables
)
with context.begin_transaction():
    context.run_migrations()
