"""signatures of versions"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

COLUMNS = ("signature_key", "signature_added_at", "signature_added_by")


def upgrade() -> None:
    for name in COLUMNS:
        kind = sa.DateTime(timezone=True) if name.endswith("_at") else sa.String()
        op.add_column("model_versions", sa.Column(name, kind, nullable=True))
    op.create_table(
        "model_signatures",
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("bundle", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["model_versions.id"],
            name=op.f("fk_model_signatures_version_id_model_versions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_model_signatures")),
    )


def downgrade() -> None:
    op.drop_table("model_signatures")
    for name in COLUMNS:
        op.drop_column("model_versions", name)
