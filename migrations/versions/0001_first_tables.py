"""first tables"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0001'
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('audit',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=True), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('workspace_id', sa.Uuid(), nullable=True),
    sa.Column('actor', sa.String(), nullable=False),
    sa.Column('token_id', sa.String(), nullable=False),
    sa.Column('action', sa.String(), nullable=False),
    sa.Column('subject', sa.String(), nullable=False),
    sa.Column('request_id', sa.String(), nullable=False),
    sa.Column('detail', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_audit'))
    )
    op.create_index('ix_audit_workspace_id_id', 'audit', ['workspace_id', 'id'], unique=False)
    op.create_table('blobs',
    sa.Column('sha256', sa.String(length=64), nullable=False),
    sa.Column('size_bytes', sa.BigInteger(), nullable=False),
    sa.Column('upload_id', sa.Uuid(), nullable=False),
    sa.Column('part_bytes', sa.Integer(), nullable=False),
    sa.Column('part_epochs', postgresql.ARRAY(sa.Integer()), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('verified_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('condemned_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('damaged_at', sa.DateTime(timezone=True), nullable=True),
    sa.PrimaryKeyConstraint('sha256', name=op.f('pk_blobs'))
    )
    op.create_index(op.f('ix_blobs_verified_at'), 'blobs', ['verified_at'], unique=False)
    op.create_index(op.f('ix_blobs_condemned_at'), 'blobs', ['condemned_at'], unique=False)
    op.create_index(op.f('ix_blobs_damaged_at'), 'blobs', ['damaged_at'], unique=False)
    op.create_table('blob_uploads',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('token_id', sa.String(length=12), nullable=False),
    sa.Column('sha256', sa.String(length=64), nullable=False),
    sa.Column('size_bytes', sa.BigInteger(), nullable=False),
    sa.Column('part_bytes', sa.Integer(), nullable=False),
    sa.Column('epoch', sa.Integer(), nullable=False),
    sa.Column('part_epochs', postgresql.ARRAY(sa.Integer()), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_blob_uploads')),
    sa.UniqueConstraint('token_id', 'sha256', 'size_bytes', name=op.f('uq_blob_uploads_token_id_sha256_size_bytes'))
    )
    op.create_index(op.f('ix_blob_uploads_updated_at'), 'blob_uploads', ['updated_at'], unique=False)
    op.create_table('garbage',
    sa.Column('upload_id', sa.Uuid(), nullable=False),
    sa.Column('sha256', sa.String(length=64), nullable=False),
    sa.Column('kept_epochs', postgresql.ARRAY(sa.Integer()), nullable=False),
    sa.Column('since', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.PrimaryKeyConstraint('upload_id', name=op.f('pk_garbage'))
    )
    op.create_index(op.f('ix_garbage_since'), 'garbage', ['since'], unique=False)
    op.create_table('events',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=True), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('workspace_id', sa.Uuid(), nullable=False),
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('subject', sa.String(), nullable=False),
    sa.Column('payload', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_events'))
    )
    op.create_index('ix_events_workspace_id_id', 'events', ['workspace_id', 'id'], unique=False)
    op.create_table('idempotency_keys',
    sa.Column('token_id', sa.String(length=12), nullable=False),
    sa.Column('key', sa.String(length=255), nullable=False),
    sa.Column('request_sha256', sa.LargeBinary(length=32), nullable=False),
    sa.Column('status', sa.Integer(), nullable=True),
    sa.Column('headers', postgresql.JSONB(astext_type=sa.Text()), nullable=True),
    sa.Column('body', sa.String(), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.PrimaryKeyConstraint('token_id', 'key', name=op.f('pk_idempotency_keys'))
    )
    op.create_index(op.f('ix_idempotency_keys_created_at'), 'idempotency_keys', ['created_at'], unique=False)
    op.create_table('nodes',
    sa.Column('name', sa.String(length=200), nullable=False),
    sa.Column('pythons', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('targets', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('capacity', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('labels', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('keelway_version', sa.String(), nullable=False),
    sa.Column('heartbeat_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('generation', sa.Integer(), nullable=False),
    sa.Column('acted_generation', sa.Integer(), nullable=False),
    sa.PrimaryKeyConstraint('name', name=op.f('pk_nodes'))
    )
    op.create_table('outbox',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=True), nullable=False),
    sa.Column('queue', sa.String(), nullable=False),
    sa.Column('message', sa.String(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('next_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_outbox')),
    sa.UniqueConstraint('queue', 'message', name=op.f('uq_outbox_queue_message'))
    )
    op.create_index(op.f('ix_outbox_next_at'), 'outbox', ['next_at'], unique=False)
    op.create_table('tokens',
    sa.Column('id', sa.String(length=12), nullable=False),
    sa.Column('secret_sha256', sa.LargeBinary(length=32), nullable=False),
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('created_by', sa.String(), nullable=False),
    sa.Column('expires_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('last_used_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('revoked_at', sa.DateTime(timezone=True), nullable=True),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_tokens'))
    )
    op.create_table('workspaces',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('description', sa.String(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('created_by', sa.String(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_workspaces')),
    sa.UniqueConstraint('name', name=op.f('uq_workspaces_name'))
    )
    op.create_table('environments',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('workspace_id', sa.Uuid(), nullable=False),
    sa.Column('name', sa.String(length=255), nullable=False),
    sa.Column('last_version', sa.Integer(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.ForeignKeyConstraint(['workspace_id'], ['workspaces.id'], name=op.f('fk_environments_workspace_id_workspaces')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_environments')),
    sa.UniqueConstraint('workspace_id', 'name', name=op.f('uq_environments_workspace_id_name'))
    )
    op.create_table('grants',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('token_id', sa.String(length=12), nullable=False),
    sa.Column('workspace_id', sa.Uuid(), nullable=True),
    sa.Column('role', sa.String(length=16), nullable=False),
    sa.ForeignKeyConstraint(['token_id'], ['tokens.id'], name=op.f('fk_grants_token_id_tokens'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['workspace_id'], ['workspaces.id'], name=op.f('fk_grants_workspace_id_workspaces'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_grants')),
    sa.UniqueConstraint('token_id', 'workspace_id', 'role', name=op.f('uq_grants_token_id_workspace_id_role'), postgresql_nulls_not_distinct=True)
    )
    op.create_index(op.f('ix_grants_token_id'), 'grants', ['token_id'], unique=False)
    op.create_table('manifests',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('workspace_id', sa.Uuid(), nullable=False),
    sa.Column('token_id', sa.String(length=12), nullable=False),
    sa.Column('is_sealed', sa.Boolean(), nullable=False),
    sa.Column('digest', sa.String(length=64), nullable=False),
    sa.Column('size_bytes', sa.BigInteger(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('touched_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.ForeignKeyConstraint(['workspace_id'], ['workspaces.id'], name=op.f('fk_manifests_workspace_id_workspaces')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_manifests'))
    )
    op.create_index(op.f('ix_manifests_workspace_id'), 'manifests', ['workspace_id'], unique=False)
    op.create_table('models',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('workspace_id', sa.Uuid(), nullable=False),
    sa.Column('name', sa.String(length=255), nullable=False),
    sa.Column('last_version', sa.Integer(), nullable=False),
    sa.Column('latest_version', sa.Integer(), nullable=True),
    sa.Column('is_deleted', sa.Boolean(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('created_by', sa.String(), nullable=False),
    sa.ForeignKeyConstraint(['workspace_id'], ['workspaces.id'], name=op.f('fk_models_workspace_id_workspaces')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_models')),
    sa.UniqueConstraint('workspace_id', 'name', name=op.f('uq_models_workspace_id_name'))
    )
    op.create_index('ix_models_created', 'models', ['workspace_id', 'created_at', 'id'], unique=False)
    op.create_index('ix_models_latest', 'models', ['workspace_id', sa.literal_column('coalesce(latest_version, 0)'), 'id'], unique=False)
    op.create_table('operations',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('workspace_id', sa.Uuid(), nullable=False),
    sa.Column('kind', sa.String(length=32), nullable=False),
    sa.Column('subject', sa.String(), nullable=False),
    sa.Column('spec', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('state', sa.String(length=16), nullable=False),
    sa.Column('epoch', sa.Integer(), nullable=False),
    sa.Column('last_seq', sa.Integer(), nullable=False),
    sa.Column('attempts', sa.Integer(), nullable=False),
    sa.Column('max_attempts', sa.Integer(), nullable=False),
    sa.Column('owner', sa.String(), nullable=True),
    sa.Column('node', sa.String(), nullable=True),
    sa.Column('lease_until', sa.DateTime(timezone=True), nullable=True),
    sa.Column('rung_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('rings', sa.Integer(), nullable=False),
    sa.Column('deadline_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('steps', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('result', postgresql.JSONB(astext_type=sa.Text()), nullable=True),
    sa.Column('error', postgresql.JSONB(astext_type=sa.Text()), nullable=True),
    sa.Column('log_bytes', sa.BigInteger(), nullable=False),
    sa.Column('log_tail', sa.Text(), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('created_by', sa.String(), nullable=False),
    sa.Column('started_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('ended_at', sa.DateTime(timezone=True), nullable=True),
    sa.ForeignKeyConstraint(['workspace_id'], ['workspaces.id'], name=op.f('fk_operations_workspace_id_workspaces')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_operations'))
    )
    op.create_index('ix_operations_open', 'operations', ['state', 'lease_until'], unique=False, postgresql_where='ended_at IS NULL')
    op.create_index('ix_operations_workspace_id_id', 'operations', ['workspace_id', 'id'], unique=False)
    op.create_table('services',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('workspace_id', sa.Uuid(), nullable=False),
    sa.Column('name', sa.String(length=32), nullable=False),
    sa.Column('state', sa.String(length=16), nullable=False),
    sa.Column('reason', sa.String(), nullable=False),
    sa.Column('target', sa.String(length=16), nullable=False),
    sa.Column('is_deleting', sa.Boolean(), nullable=False),
    sa.Column('failure', sa.String(), nullable=False),
    sa.Column('generation', sa.Integer(), nullable=False),
    sa.Column('observed_generation', sa.Integer(), nullable=False),
    sa.Column('deployment_config', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('description', sa.String(), nullable=False),
    sa.Column('tags', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('properties', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('operation_id', sa.Uuid(), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('created_by', sa.String(), nullable=False),
    sa.Column('row_version', sa.Integer(), nullable=False),
    sa.ForeignKeyConstraint(['workspace_id'], ['workspaces.id'], name=op.f('fk_services_workspace_id_workspaces')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_services')),
    sa.UniqueConstraint('workspace_id', 'name', name=op.f('uq_services_workspace_id_name'))
    )
    op.create_table('environment_versions',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('environment_id', sa.Uuid(), nullable=False),
    sa.Column('version', sa.Integer(), nullable=False),
    sa.Column('content_digest', sa.String(length=64), nullable=False),
    sa.Column('definition', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('python_version', sa.String(length=16), nullable=False),
    sa.Column('requirements', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('lock', sa.Text(), nullable=False),
    sa.Column('lock_digest', sa.String(length=64), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('created_by', sa.String(), nullable=False),
    sa.ForeignKeyConstraint(['environment_id'], ['environments.id'], name=op.f('fk_environment_versions_environment_id_environments')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_environment_versions')),
    sa.UniqueConstraint('environment_id', 'content_digest', name=op.f('uq_environment_versions_environment_id_content_digest')),
    sa.UniqueConstraint('environment_id', 'version', name=op.f('uq_environment_versions_environment_id_version'))
    )
    op.create_table('manifest_files',
    sa.Column('manifest_id', sa.Uuid(), nullable=False),
    sa.Column('path', sa.String(length=1024), nullable=False),
    sa.Column('size_bytes', sa.BigInteger(), nullable=False),
    sa.Column('sha256', sa.String(length=64), nullable=False),
    sa.Column('is_received', sa.Boolean(), nullable=False),
    sa.ForeignKeyConstraint(['manifest_id'], ['manifests.id'], name=op.f('fk_manifest_files_manifest_id_manifests'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('manifest_id', 'path', name=op.f('pk_manifest_files'))
    )
    op.create_index('ix_manifest_files_sha256', 'manifest_files', ['sha256'], unique=False)
    op.create_table('model_versions',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('model_id', sa.Uuid(), nullable=False),
    sa.Column('workspace_id', sa.Uuid(), nullable=False),
    sa.Column('name', sa.String(length=255), nullable=False),
    sa.Column('version', sa.Integer(), nullable=False),
    sa.Column('state', sa.String(length=16), nullable=False),
    sa.Column('manifest_id', sa.Uuid(), nullable=False),
    sa.Column('description', sa.String(), nullable=False),
    sa.Column('tags', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('properties', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('framework', sa.String(), nullable=True),
    sa.Column('framework_version', sa.String(), nullable=True),
    sa.Column('resource_requirements', postgresql.JSONB(astext_type=sa.Text()), nullable=True),
    sa.Column('datasets', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('sample_input', postgresql.JSONB(astext_type=sa.Text()), nullable=True),
    sa.Column('sample_output', postgresql.JSONB(astext_type=sa.Text()), nullable=True),
    sa.Column('requires_approval', sa.Boolean(), nullable=False),
    sa.Column('approved_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('approved_by', sa.String(), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('created_by', sa.String(), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('row_version', sa.Integer(), nullable=False),
    sa.ForeignKeyConstraint(['manifest_id'], ['manifests.id'], name=op.f('fk_model_versions_manifest_id_manifests')),
    sa.ForeignKeyConstraint(['model_id'], ['models.id'], name=op.f('fk_model_versions_model_id_models')),
    sa.ForeignKeyConstraint(['workspace_id'], ['workspaces.id'], name=op.f('fk_model_versions_workspace_id_workspaces')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_model_versions')),
    sa.UniqueConstraint('model_id', 'version', name=op.f('uq_model_versions_model_id_version'))
    )
    op.create_index(op.f('ix_model_versions_state'), 'model_versions', ['state'], unique=False)
    op.create_index(op.f('ix_model_versions_manifest_id'), 'model_versions', ['manifest_id'], unique=False)
    op.create_index('ix_model_versions_named', 'model_versions', ['workspace_id', 'name', 'version'], unique=True)
    op.create_index('ix_model_versions_created', 'model_versions', ['workspace_id', 'created_at', 'id'], unique=False)
    op.create_index('ix_model_versions_name', 'model_versions', ['workspace_id', 'name', 'id'], unique=False)
    op.create_index('ix_model_versions_number', 'model_versions', ['workspace_id', 'version', 'id'], unique=False)
    op.create_index('ix_model_versions_framework', 'model_versions', ['workspace_id', 'framework', 'created_at'], unique=False)
    op.create_index('ix_model_versions_tags', 'model_versions', ['tags'], unique=False, postgresql_using='gin')
    op.create_index('ix_model_versions_properties', 'model_versions', ['properties'], unique=False, postgresql_using='gin')
    op.create_index('ix_model_versions_datasets', 'model_versions', ['datasets'], unique=False, postgresql_using='gin')
    op.create_table('model_aliases',
    sa.Column('model_id', sa.Uuid(), nullable=False),
    sa.Column('alias', sa.String(length=255), nullable=False),
    sa.Column('version_id', sa.Uuid(), nullable=False),
    sa.Column('since', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('by', sa.String(), nullable=False),
    sa.Column('change_id', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['model_id'], ['models.id'], name=op.f('fk_model_aliases_model_id_models')),
    sa.ForeignKeyConstraint(['version_id'], ['model_versions.id'], name=op.f('fk_model_aliases_version_id_model_versions')),
    sa.PrimaryKeyConstraint('model_id', 'alias', name=op.f('pk_model_aliases'))
    )
    op.create_index(op.f('ix_model_aliases_version_id'), 'model_aliases', ['version_id'], unique=False)
    op.create_table('model_alias_history',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=True), nullable=False),
    sa.Column('model_id', sa.Uuid(), nullable=False),
    sa.Column('alias', sa.String(length=255), nullable=False),
    sa.Column('from_version', sa.Integer(), nullable=True),
    sa.Column('to_version', sa.Integer(), nullable=True),
    sa.Column('at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('by', sa.String(), nullable=False),
    sa.ForeignKeyConstraint(['model_id'], ['models.id'], name=op.f('fk_model_alias_history_model_id_models')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_model_alias_history'))
    )
    op.create_index('ix_model_alias_history_alias', 'model_alias_history', ['model_id', 'alias', 'id'], unique=False)
    op.create_table('operation_logs',
    sa.Column('operation_id', sa.Uuid(), nullable=False),
    sa.Column('offset', sa.BigInteger(), nullable=False),
    sa.Column('text', sa.Text(), nullable=False),
    sa.ForeignKeyConstraint(['operation_id'], ['operations.id'], name=op.f('fk_operation_logs_operation_id_operations'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('operation_id', 'offset', name=op.f('pk_operation_logs'))
    )
    op.create_table('replica_logs',
    sa.Column('service_id', sa.Uuid(), nullable=False),
    sa.Column('replica', sa.String(length=80), nullable=False),
    sa.Column('offset', sa.BigInteger(), nullable=False),
    sa.Column('size_bytes', sa.Integer(), nullable=False),
    sa.Column('text', sa.Text(), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.ForeignKeyConstraint(['service_id'], ['services.id'], name=op.f('fk_replica_logs_service_id_services'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('replica', 'offset', name=op.f('pk_replica_logs'))
    )
    op.create_index(op.f('ix_replica_logs_service_id'), 'replica_logs', ['service_id'], unique=False)
    op.create_table('snapshots',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('workspace_id', sa.Uuid(), nullable=False),
    sa.Column('digest', sa.String(length=64), nullable=False),
    sa.Column('manifest_id', sa.Uuid(), nullable=False),
    sa.Column('state', sa.String(length=16), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('created_by', sa.String(), nullable=False),
    sa.ForeignKeyConstraint(['manifest_id'], ['manifests.id'], name=op.f('fk_snapshots_manifest_id_manifests')),
    sa.ForeignKeyConstraint(['workspace_id'], ['workspaces.id'], name=op.f('fk_snapshots_workspace_id_workspaces')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_snapshots')),
    sa.UniqueConstraint('workspace_id', 'digest', name=op.f('uq_snapshots_workspace_id_digest'))
    )
    op.create_table('model_uses',
    sa.Column('version_id', sa.Uuid(), nullable=False),
    sa.Column('used_by', sa.String(), nullable=False),
    sa.ForeignKeyConstraint(['version_id'], ['model_versions.id'], name=op.f('fk_model_uses_version_id_model_versions')),
    sa.PrimaryKeyConstraint('version_id', 'used_by', name=op.f('pk_model_uses'))
    )
    op.create_index(op.f('ix_model_uses_used_by'), 'model_uses', ['used_by'], unique=False)
    op.create_table('revisions',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('service_id', sa.Uuid(), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('models', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('inference_config', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('environment_version_id', sa.Uuid(), nullable=False),
    sa.Column('snapshot_id', sa.Uuid(), nullable=False),
    sa.Column('num_replicas', sa.Integer(), nullable=False),
    sa.Column('image', sa.String(), nullable=True),
    sa.Column('traffic', sa.Integer(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.ForeignKeyConstraint(['environment_version_id'], ['environment_versions.id'], name=op.f('fk_revisions_environment_version_id_environment_versions')),
    sa.ForeignKeyConstraint(['service_id'], ['services.id'], name=op.f('fk_revisions_service_id_services'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['snapshot_id'], ['snapshots.id'], name=op.f('fk_revisions_snapshot_id_snapshots')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_revisions')),
    sa.UniqueConstraint('service_id', 'number', name=op.f('uq_revisions_service_id_number'))
    )
    op.create_table('replicas',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('name', sa.String(length=80), nullable=False),
    sa.Column('service_id', sa.Uuid(), nullable=False),
    sa.Column('revision_id', sa.Uuid(), nullable=False),
    sa.Column('node', sa.String(length=200), nullable=False),
    sa.Column('is_wanted', sa.Boolean(), nullable=False),
    sa.Column('generation', sa.Integer(), nullable=False),
    sa.Column('state', sa.String(length=16), nullable=False),
    sa.Column('reason', sa.String(), nullable=False),
    sa.Column('url', sa.String(), nullable=True),
    sa.Column('pid', sa.Integer(), nullable=True),
    sa.Column('restarts', sa.Integer(), nullable=False),
    sa.Column('exit_code', sa.Integer(), nullable=True),
    sa.Column('log_tail', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('started_at', sa.DateTime(timezone=True), nullable=True),
    sa.ForeignKeyConstraint(['node'], ['nodes.name'], name=op.f('fk_replicas_node_nodes')),
    sa.ForeignKeyConstraint(['revision_id'], ['revisions.id'], name=op.f('fk_replicas_revision_id_revisions'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['service_id'], ['services.id'], name=op.f('fk_replicas_service_id_services'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_replicas')),
    sa.UniqueConstraint('name', name=op.f('uq_replicas_name'))
    )
    op.create_index(op.f('ix_replicas_node'), 'replicas', ['node'], unique=False)
    op.create_index(op.f('ix_replicas_revision_id'), 'replicas', ['revision_id'], unique=False)
    op.create_index(op.f('ix_replicas_service_id'), 'replicas', ['service_id'], unique=False)


def downgrade() -> None:
    op.drop_index(op.f('ix_replicas_service_id'), table_name='replicas')
    op.drop_index(op.f('ix_replicas_revision_id'), table_name='replicas')
    op.drop_index(op.f('ix_replicas_node'), table_name='replicas')
    op.drop_table('replicas')
    op.drop_table('revisions')
    op.drop_table('model_uses')
    op.drop_table('snapshots')
    op.drop_index(op.f('ix_replica_logs_service_id'), table_name='replica_logs')
    op.drop_table('replica_logs')
    op.drop_table('operation_logs')
    op.drop_table('model_alias_history')
    op.drop_table('model_aliases')
    op.drop_index(op.f('ix_model_versions_state'), table_name='model_versions')
    op.drop_table('model_versions')
    op.drop_index('ix_manifest_files_sha256', table_name='manifest_files')
    op.drop_table('manifest_files')
    op.drop_table('environment_versions')
    op.drop_table('services')
    op.drop_index('ix_operations_workspace_id_id', table_name='operations')
    op.drop_index('ix_operations_open', table_name='operations', postgresql_where='ended_at IS NULL')
    op.drop_table('operations')
    op.drop_table('models')
    op.drop_index(op.f('ix_manifests_workspace_id'), table_name='manifests')
    op.drop_table('manifests')
    op.drop_index(op.f('ix_grants_token_id'), table_name='grants')
    op.drop_table('grants')
    op.drop_table('environments')
    op.drop_table('workspaces')
    op.drop_table('tokens')
    op.drop_index(op.f('ix_outbox_next_at'), table_name='outbox')
    op.drop_table('outbox')
    op.drop_table('nodes')
    op.drop_index(op.f('ix_idempotency_keys_created_at'), table_name='idempotency_keys')
    op.drop_table('idempotency_keys')
    op.drop_index('ix_events_workspace_id_id', table_name='events')
    op.drop_table('events')
    op.drop_index(op.f('ix_garbage_since'), table_name='garbage')
    op.drop_table('garbage')
    op.drop_index(op.f('ix_blob_uploads_updated_at'), table_name='blob_uploads')
    op.drop_table('blob_uploads')
    op.drop_index(op.f('ix_blobs_damaged_at'), table_name='blobs')
    op.drop_index(op.f('ix_blobs_condemned_at'), table_name='blobs')
    op.drop_index(op.f('ix_blobs_verified_at'), table_name='blobs')
    op.drop_table('blobs')
    op.drop_index('ix_audit_workspace_id_id', table_name='audit')
    op.drop_table('audit')
