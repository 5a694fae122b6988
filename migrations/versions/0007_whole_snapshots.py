"""when a snapshot was whole"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("snapshots", sa.Column("whole_at", sa.DateTime(timezone=True), nullable=True))
    # Which of those being sent again were whole before, nobody noted: all that something refers to were.
    op.execute(
        "UPDATE snapshots SET whole_at = created_at WHERE state = 'ready' "
        "OR id IN (SELECT snapshot_id FROM revisions) "
        "OR id IN (SELECT wheels_id FROM environment_versions) "
        "OR id IN (SELECT build_context_id FROM environment_versions)"
    )


def downgrade() -> None:
    op.drop_column("snapshots", "whole_at")
