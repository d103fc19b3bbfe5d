"""What SLMs said and nobody was served"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("calls", sa.Column("attempt_answers", sa.LargeBinary(), nullable=True))
