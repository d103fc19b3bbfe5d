"""The audit share that was asked for, beside the one in force"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("promotions", sa.Column("asked_audit_share", sa.Double(), nullable=True))
    # A share of 1 was given to thin certificates, and taken back: nobody can say that it was asked for.
    op.execute("UPDATE promotions SET asked_audit_share = audit_share WHERE audit_share < 1")
