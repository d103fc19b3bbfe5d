"""Promotions whose calls the LLM answers until a doubt is outweighed"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("promotions", sa.Column("in_doubt", sa.Boolean(), nullable=False, server_default=sa.false()))
