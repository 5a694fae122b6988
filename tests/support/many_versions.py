"""A registry with very many versions, written straight into the database: through the API it would take minutes."""

from __future__ import annotations

import psycopg

SEED = """
CREATE TEMP TABLE seeded ON COMMIT DROP AS
    SELECT m.number AS model, v.number AS version, gen_random_uuid() AS manifest_id,
           now() - interval '1 second' * (%(models)s * %(versions)s - ((v.number - 1) * %(models)s + m.number)) AS at
    FROM generate_series(1, %(models)s) AS m(number), generate_series(1, %(versions)s) AS v(number);
INSERT INTO models (id, workspace_id, name, last_version, latest_version, is_deleted, created_at, created_by)
    SELECT uuidv7(), w.id, 'm' || s.model, %(versions)s, %(versions)s, false, min(s.at), 'seed'
    FROM seeded s, workspaces w WHERE w.name = %(workspace)s GROUP BY w.id, s.model;
INSERT INTO manifests (id, workspace_id, token_id, is_sealed, digest, size_bytes, created_at, touched_at)
    SELECT s.manifest_id, w.id, 'seed', true, encode(sha256(s.manifest_id::text::bytea), 'hex'), 1000, s.at, s.at
    FROM seeded s, workspaces w WHERE w.name = %(workspace)s;
INSERT INTO blobs (sha256, size_bytes, upload_id, part_bytes, part_epochs)
    SELECT encode(sha256(s.manifest_id::text::bytea), 'hex'), 1000, gen_random_uuid(), 8388608, '{1}' FROM seeded s;
INSERT INTO manifest_files (manifest_id, path, size_bytes, sha256, is_received)
    SELECT s.manifest_id, 'model.pkl', 1000, encode(sha256(s.manifest_id::text::bytea), 'hex'), true FROM seeded s;
INSERT INTO model_versions (id, model_id, workspace_id, name, version, state, manifest_id, description, tags,
                            properties, framework, framework_version, run, datasets, requires_approval, safety_label,
                            created_at, created_by, updated_at, row_version)
    SELECT uuidv7(), m.id, m.workspace_id, m.name, s.version, 'ready', s.manifest_id, 'seeded',
           jsonb_build_object('team', 't' || s.model %% 20, 'stage', 's' || s.version %% 5, 'n', s.version::text)
               || CASE WHEN s.model %% 100 = 7 AND s.version = 1 THEN '{"pinned": "yes"}' ELSE '{}' END::jsonb,
           jsonb_build_object('git', 'c' || s.model * 1000 + s.version)
               || CASE WHEN s.model = 7 THEN '{"ticket": "1"}' ELSE '{}' END::jsonb,
           CASE WHEN s.model = 7 THEN 'lightgbm'
                ELSE (ARRAY['scikit-learn', 'onnx', 'xgboost', 'custom'])[1 + s.model %% 4] END, '1.0',
           'train/r' || s.model, jsonb_build_array(jsonb_build_object('scenario', 'training', 'id', 'd' || s.model)),
           false,
           CASE WHEN s.model %% 100 = 7 AND s.version = 1 THEN NULL
                WHEN s.model = 8 THEN 'inert' ELSE 'executable' END,
           s.at, 'seed', s.at, 1
    FROM seeded s, models m, workspaces w
    WHERE w.name = %(workspace)s AND m.workspace_id = w.id AND m.name = 'm' || s.model;
"""
TABLES = ("models", "manifests", "blobs", "manifest_files", "model_versions")


def seed(connection: psycopg.Connection[object], workspace: str, *, models: int, versions: int) -> None:
    """Models `m1`... with versions 1..., all ready, with tags, properties, a framework, a run, a dataset and a label.

    Of each there is what many versions have and what few have: spread over all models, or all of one model.
    """
    cursor = psycopg.ClientCursor(connection)  # several statements with parameters: they are put in here, not there
    with connection.transaction():
        cursor.execute(SEED, {"workspace": workspace, "models": models, "versions": versions})
    for table in TABLES:
        cursor.execute(f"ANALYZE {table}")
