"""Lists among 100,000 versions: every filter and order finds its rows by an index."""

import json
from uuid import uuid4

import pytest

from keelway_api.models import listing, queries
from keelway_api.models.listing import FILTERS, Shape
from tests.support.many_versions import seed

MODELS, VERSIONS = 2_000, 50
LARGE = {"model_versions", "manifests", "manifest_files", "blobs"}
VALUES = {
    "name": "m7",
    "framework": "onnx",
    "run": "train/r7",
    "dataset": '[{"id": "d7"}]',
    "tag": "team",
    "tag=": '{"n": "7"}',
    "property": "git",
    "property=": '{"git": "c5005"}',
}


@pytest.fixture(scope="module")
def crowded(api):
    """A workspace with very many versions; its id."""
    name = api.workspace()
    with api.connection() as connection:
        seed(connection, name, models=MODELS, versions=VERSIONS)
    return api.sql("SELECT id FROM workspaces WHERE name = %s", name)[0]["id"]


@pytest.fixture(scope="module", autouse=True)
def removed(api):
    """Other tests that look at all blobs and versions are not to look at these."""
    yield
    with api.connection() as connection, connection.transaction():
        connection.execute("CREATE TEMP TABLE old ON COMMIT DROP AS SELECT id FROM manifests WHERE token_id = 'seed'")
        connection.execute(
            "DELETE FROM blobs b USING manifest_files f, old WHERE f.manifest_id = old.id AND b.sha256 = f.sha256"
        )
        connection.execute("DELETE FROM model_versions WHERE created_by = 'seed'")
        connection.execute("DELETE FROM models WHERE created_by = 'seed'")
        connection.execute("DELETE FROM manifests WHERE token_id = 'seed'")


def nodes(plan):
    """A plan's nodes, all of them."""
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def read_whole(api, statement, values):
    """The large tables that a statement would read from end to end, with these values and with any."""
    found = set()
    with api.connection() as connection:
        for mode in ("force_custom_plan", "force_generic_plan"):
            connection.execute(f"SET plan_cache_mode = {mode}")
            connection.execute("SET random_page_cost = 1.1")  # as the API's sessions have it
            connection.execute(b"PREPARE p AS " + statement.text)
            literals = ", ".join(f"'{values[name]}'" for name in statement.names)
            row = connection.execute(f"EXPLAIN (FORMAT json) EXECUTE p({literals})").fetchone()
            document = next(iter(row.values()))
            plan = (json.loads(document) if isinstance(document, str) else document)[0]["Plan"]
            found |= {node["Relation Name"] for node in nodes(plan) if node["Node Type"] == "Seq Scan"}
            connection.execute("DEALLOCATE p")
    return found & LARGE


@pytest.mark.parametrize(
    "statement", [listing.versions_statement, listing.models_statement], ids=["versions", "models"]
)
@pytest.mark.parametrize("order_by", ["created_at", "name", "version"])
@pytest.mark.parametrize("filter", ["", "name", *FILTERS])
def test_every_filter_in_every_order_uses_an_index(api, crowded, statement, order_by, filter):
    values = {"workspace_id": crowded, "limit": 51, "value_0": VALUES.get(filter)}
    for is_descending in (True, False):
        for latest_only in (False, True):
            shape = Shape((filter,) if filter else (), latest_only, order_by, is_descending)
            assert read_whole(api, statement(shape), values) == set()


@pytest.mark.parametrize("order_by", ["created_at", "name", "version"])
def test_a_later_page_uses_an_index(api, crowded, order_by):
    after = {"created_at": "2026-01-01T00:00:00+00:00", "name": "m5", "version": "3"}[order_by]
    values = {"workspace_id": crowded, "limit": 51, "after": after, "after_id": uuid4()}
    for is_descending in (True, False):
        shape = Shape((), False, order_by, is_descending, has_cursor=True)
        assert read_whole(api, listing.versions_statement(shape), values) == set()


@pytest.mark.parametrize("kind", sorted(queries.SHOW))
def test_one_version_is_found_by_an_index(api, crowded, kind):
    values = {
        "workspace_id": crowded,
        "name": "m7",
        "value": {"number": 7, "latest": "latest", "alias": "champion"}[kind],
    }
    assert read_whole(api, queries.SHOW[kind], values) == set()
