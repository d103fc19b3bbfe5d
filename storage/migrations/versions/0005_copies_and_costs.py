"""Copies: second answers to logged calls, by an SLM or by the LLM. Costs: money that was spent on no call"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "copies",
        sa.Column("copy_id", sa.LargeBinary(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("call_id", sa.LargeBinary(), nullable=False),
        sa.Column("cluster_id", sa.String(), nullable=False),
        sa.Column("promotion_id", sa.Integer(), nullable=False),
        sa.Column("slm", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("duration_ms", sa.Double(), nullable=False),
        sa.Column("confidence", sa.Double(), nullable=True),
        sa.Column("input_tokens", sa.Integer(), nullable=True),
        sa.Column("output_tokens", sa.Integer(), nullable=True),
        sa.Column("cost_usd", sa.Double(), nullable=True),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.Column("verdict", sa.String(), nullable=True),
        sa.Column("verdict_reason", sa.String(), nullable=True),
        sa.Column("judged_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("copy_id", name=op.f("pk_copies")),
    )
    op.create_index("ix_copies_call_id", "copies", ["call_id"])
    op.create_index("ix_copies_cluster_id", "copies", ["cluster_id"])
    op.create_index("ix_copies_at", "copies", ["at"])
    op.create_index("ix_copies_verdict_copy_id", "copies", ["verdict", "copy_id"])
    op.create_table(
        "costs",
        sa.Column("cost_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("cluster_id", sa.String(), nullable=True),
        sa.Column("usd", sa.Double(), nullable=False),
        sa.Column("figures", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("cost_id", name=op.f("pk_costs")),
    )
    op.create_index("ix_costs_at", "costs", ["at"])
    op.add_column("promotions", sa.Column("audit_share", sa.Double(), nullable=True))
