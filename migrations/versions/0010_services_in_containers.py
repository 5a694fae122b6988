"""services in containers"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("revisions", sa.Column("image_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(op.f("fk_revisions_image_id_images"), "revisions", "images", ["image_id"], ["id"])


def downgrade() -> None:
    op.drop_constraint(op.f("fk_revisions_image_id_images"), "revisions", type_="foreignkey")
    op.drop_column("revisions", "image_id")
