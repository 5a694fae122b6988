"""safety labels of versions, what was found in blobs, and what a workspace refuses to deploy"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("model_versions", sa.Column("safety", postgresql.JSONB(), nullable=True))
    op.add_column("model_versions", sa.Column("safety_label", sa.String(length=16), nullable=True))
    op.create_index(
        "ix_model_versions_safety", "model_versions", ["workspace_id", "safety_label", "created_at", "id"]
    )
    op.add_column(
        "workspaces", sa.Column("refuse_findings", sa.String(length=16), server_default="none", nullable=False)
    )
    op.create_table(
        "blob_inspections",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("inspector", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("findings", postgresql.JSONB(), nullable=False),
        sa.Column("inspected_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["sha256"], ["blobs.sha256"], name=op.f("fk_blob_inspections_sha256_blobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_blob_inspections")),
    )
    op.create_table(
        "version_inspections",
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("operation_id", sa.Uuid(), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["model_versions.id"],
            name=op.f("fk_version_inspections_version_id_model_versions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_version_inspections")),
    )
    op.create_index(op.f("ix_version_inspections_next_at"), "version_inspections", ["next_at"])
    # The clock starts inspections of those that are there already, some at a time.
    op.execute(
        "INSERT INTO version_inspections (version_id, tries, next_at) "
        "SELECT id, 0, now() FROM model_versions WHERE state = 'ready'"
    )


def downgrade() -> None:
    op.drop_table("version_inspections")
    op.drop_table("blob_inspections")
    op.drop_column("workspaces", "refuse_findings")
    op.drop_index("ix_model_versions_safety", table_name="model_versions")
    op.drop_column("model_versions", "safety_label")
    op.drop_column("model_versions", "safety")
