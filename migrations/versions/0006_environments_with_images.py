"""environments with conda packages, private wheels and images; curated ones"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

SNAPSHOTS = ("wheels_id", "build_context_id")


def upgrade() -> None:
    op.alter_column("environments", "workspace_id", nullable=True)
    op.create_index(
        "ix_environments_curated", "environments", ["name"], unique=True, postgresql_where=sa.text("workspace_id IS NULL")
    )
    op.add_column("environment_versions", sa.Column("conda_lock", sa.Text(), nullable=True))
    for name in SNAPSHOTS:
        op.add_column("environment_versions", sa.Column(name, sa.Uuid(), nullable=True))
        op.create_foreign_key(
            op.f(f"fk_environment_versions_{name}_snapshots"), "environment_versions", "snapshots", [name], ["id"]
        )
    op.create_table(
        "environment_registries",
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("username", sa.String(), nullable=False),
        sa.Column("password", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["environment_versions.id"],
            name=op.f("fk_environment_registries_version_id_environment_versions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_environment_registries")),
    )


def downgrade() -> None:
    op.drop_table("environment_registries")
    for name in SNAPSHOTS:
        op.drop_column("environment_versions", name)
    op.drop_column("environment_versions", "conda_lock")
    op.drop_index("ix_environments_curated", "environments")
    # Curated environments are made again at the next start; one that a service uses stands in the way.
    op.execute(
        "DELETE FROM environment_versions USING environments "
        "WHERE environments.id = environment_id AND workspace_id IS NULL"
    )
    op.execute("DELETE FROM environments WHERE workspace_id IS NULL")
    op.alter_column("environments", "workspace_id", nullable=False)
