"""services in containers; revisions that follow one another"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("revisions", sa.Column("image_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(op.f("fk_revisions_image_id_images"), "revisions", "images", ["image_id"], ["id"])
    op.add_column("revisions", sa.Column("deployment_config", postgresql.JSONB(), nullable=True))
    op.add_column("revisions", sa.Column("served_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("revisions", sa.Column("created_by", sa.String(), nullable=True))
    op.execute(
        "UPDATE revisions SET deployment_config = services.deployment_config, created_by = services.created_by,"
        " served_at = CASE WHEN revisions.traffic > 0 THEN revisions.created_at END"
        " FROM services WHERE services.id = revisions.service_id"
    )
    op.alter_column("revisions", "deployment_config", nullable=False)
    op.alter_column("revisions", "created_by", nullable=False)
    op.drop_column("services", "deployment_config")


def downgrade() -> None:
    op.add_column("services", sa.Column("deployment_config", postgresql.JSONB(), nullable=True))
    op.execute(
        "UPDATE services SET deployment_config = (SELECT deployment_config FROM revisions"
        " WHERE revisions.service_id = services.id ORDER BY traffic DESC, number DESC LIMIT 1)"
    )
    op.alter_column("services", "deployment_config", nullable=False)
    for name in ("created_by", "served_at", "deployment_config"):
        op.drop_column("revisions", name)
    op.drop_constraint(op.f("fk_revisions_image_id_images"), "revisions", type_="foreignkey")
    op.drop_column("revisions", "image_id")
