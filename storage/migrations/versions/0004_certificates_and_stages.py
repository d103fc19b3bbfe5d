"""Certificates, and the moves between stages that they allow"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "certificates",
        sa.Column("certificate_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("cluster_id", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("issued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("certificate_id", name=op.f("pk_certificates")),
    )
    op.create_index("ix_certificates_cluster_id_model", "certificates", ["cluster_id", "model"])
    op.create_table(
        "stage_moves",
        sa.Column("move_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("cluster_id", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("from_stage", sa.String(), nullable=False),
        sa.Column("to_stage", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("figures", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("move_id", name=op.f("pk_stage_moves")),
    )
    op.create_index("ix_stage_moves_cluster_id_model", "stage_moves", ["cluster_id", "model"])
    op.add_column("promotions", sa.Column("certificate_id", sa.Integer(), nullable=True))
    op.add_column("promotions", sa.Column("min_confidence", sa.Double(), nullable=True))
    op.add_column("models", sa.Column("weights", sa.String(), nullable=True))
