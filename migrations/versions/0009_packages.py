"""packages"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "packages",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("models", postgresql.JSONB(), nullable=False),
        sa.Column("inference_config", postgresql.JSONB(), nullable=False),
        sa.Column("environment_version_id", sa.Uuid(), nullable=False),
        sa.Column("source_id", sa.Uuid(), nullable=False),
        sa.Column("image_name", sa.String(), nullable=False),
        sa.Column("image_label", sa.String(), nullable=False),
        sa.Column("operation_id", sa.Uuid(), nullable=True),
        sa.Column("image_id", sa.String(), nullable=True),
        sa.Column("base_image", sa.String(), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("snapshot_id", sa.Uuid(), nullable=True),
        sa.Column("archive_sha256", sa.String(64), nullable=True),
        sa.Column("archive_size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("pushed", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        *_references("packages", workspace_id="workspaces", environment_version_id="environment_versions"),
        *_references("packages", source_id="snapshots", snapshot_id="snapshots"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_packages")),
    )
    op.create_index("ix_packages_workspace_id_id", "packages", ["workspace_id", "id"])
    op.create_index(
        "uq_packages_image",
        "packages",
        ["workspace_id", "image_name", "image_label"],
        unique=True,
        postgresql_where=sa.text("state <> 'failed'"),
    )


def _references(table: str, **columns: str) -> list[sa.ForeignKeyConstraint]:
    return [
        sa.ForeignKeyConstraint([name], [f"{other}.id"], name=op.f(f"fk_{table}_{name}_{other}"))
        for name, other in columns.items()
    ]


def downgrade() -> None:
    op.drop_table("packages")
