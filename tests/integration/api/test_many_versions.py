"""Lists among 100,000 versions: every filter and order finds its rows by an index."""

import json
from uuid import uuid4

import pytest

from keelway_api.models import listing, queries
from keelway_api.models.listing import FILTERS, Shape
from tests.support.many_versions import seed

MODELS, VERSIONS = 2_000, 50
STATEMENTS = [listing.page_statement, listing.marks_statement]
LARGE = {"model_versions", "manifests", "manifest_files", "blobs"}
REMOVED = MODELS * VERSIONS // 10  # rows that a page may look at in vain
VALUES = {  # what many have, what few have, what nobody has
    "": [None],
    "name": ["m7", "none"],
    "framework": ["onnx", "lightgbm", "none"],
    "run": ["train/r7", "none"],
    "dataset": ['[{"id": "d7"}]', '[{"id": "none"}]'],
    "safety": ["executable", "inert", "none"],
    "not-inspected": ["not-inspected"],
    "tag": ["team", "pinned", "none"],
    "tag=": ['{"team": "t3"}', '{"n": "7"}', '{"pinned": "yes"}', '{"n": "none"}'],
    "property": ["git", "ticket", "none"],
    "property=": ['{"ticket": "1"}', '{"git": "c5005"}', '{"git": "none"}'],
}
BEHIND = {"created_at": "2026-01-01T00:00:00+00:00", "name": "m5", "version": "3"}


@pytest.fixture(scope="module")
def crowded(api):
    """A workspace with very many versions; its id."""
    name = api.workspace()
    with api.connection() as connection:
        seed(connection, name, models=MODELS, versions=VERSIONS)
    return api.sql("SELECT id FROM workspaces WHERE name = %s", name)[0]["id"]


@pytest.fixture(scope="module", autouse=True)
def tidied(api):
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
    """A plan's nodes, those that were needed."""
    if plan["Actual Loops"]:
        yield plan
        for child in plan.get("Plans", []):
            yield from nodes(child)


def removed(node):
    """Rows that a node read and did not want."""
    return node["Actual Loops"] * sum(rows for name, rows in node.items() if name.startswith("Rows Removed by "))


def plans(connection, statement, values):
    """What was done for these values, by a plan for them and by one for any."""
    connection.execute("SET random_page_cost = 1.1")  # as the API's sessions have it
    connection.execute(b"PREPARE p AS " + statement.text)
    literals = ", ".join(f"'{values[name]}'" for name in statement.names)
    for mode in ("force_custom_plan", "force_generic_plan"):
        connection.execute(f"SET plan_cache_mode = {mode}")
        row = connection.execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT json) EXECUTE p({literals})").fetchone()
        document = next(iter(row.values()))
        yield list(nodes((json.loads(document) if isinstance(document, str) else document)[0]["Plan"]))
    connection.execute("DEALLOCATE p")


def wasted(connection, statement, values):
    """What a statement did in vain: large tables that it read from end to end, and rows if they were too many."""
    found = set()
    for plan in plans(connection, statement, values):
        found |= {node["Relation Name"] for node in plan if node["Node Type"] == "Seq Scan"} & LARGE
        if (rows := sum(map(removed, plan))) > REMOVED:
            found.add(f"{rows:.0f} rows")
    return found


def shapes(filter, order_by, **more):
    for is_descending in (True, False):
        for latest_only in (False, True):
            yield Shape((filter,) if filter else (), latest_only, order_by, is_descending, **more)


def test_every_filter_is_looked_at():
    assert VALUES.keys() == {"", "name", *FILTERS}


@pytest.mark.parametrize("list", [listing.VERSIONS, listing.MODELS], ids=["versions", "models"])
@pytest.mark.parametrize("statement", STATEMENTS)
@pytest.mark.parametrize("order_by", ["created_at", "name", "version"])
@pytest.mark.parametrize("filter", VALUES)
def test_every_filter_in_every_order_uses_an_index(api, crowded, list, statement, order_by, filter):
    with api.connection() as connection:
        for shape in shapes(filter, order_by):
            for value in VALUES[filter]:
                values = {"workspace_id": crowded, "limit": 51, "value_0": value}
                assert wasted(connection, statement(list, shape), values) == set(), (shape, value)


@pytest.mark.parametrize("statement", STATEMENTS)
@pytest.mark.parametrize("order_by", ["created_at", "name", "version"])
@pytest.mark.parametrize("filter", VALUES)
def test_a_later_page_uses_an_index(api, crowded, order_by, statement, filter):
    behind = {"workspace_id": crowded, "limit": 51, "after": BEHIND[order_by], "after_id": uuid4()}
    with api.connection() as connection:
        for shape in shapes(filter, order_by, has_cursor=True):
            for value in VALUES[filter]:
                found = wasted(connection, statement(listing.VERSIONS, shape), behind | {"value_0": value})
                assert found == set(), (shape, value)


@pytest.mark.parametrize("filter", ["framework", "run", "dataset", "not-inspected", "tag", "tag=", "property="])
def test_a_filter_without_its_index_is_noticed(api, crowded, filter):
    index = filter.removesuffix("=").replace("property", "properties").replace("not-inspected", "safety")
    index = f"ix_model_versions_{index + 's' if index in {'tag', 'dataset'} else index}"
    statement = listing.page_statement(listing.VERSIONS, Shape((filter,)))
    values = {"workspace_id": crowded, "limit": 51, "value_0": VALUES[filter][-1]}
    with api.connection() as connection, connection.transaction(force_rollback=True):
        connection.execute(f"DROP INDEX {index}")
        assert wasted(connection, statement, values)


FOUND = [  # by the walk, by the filter's index, by both
    ({"tag": "pinned"}, "v.tags ? 'pinned'"),
    ({"tag": ["pinned=yes", "team=t7"], "latest_only": "true"}, "false"),
    ({"tag": "n=50", "dataset": "d7", "latest_only": "true"}, "v.name = 'm7' AND v.version = 50"),
    ({"framework": "lightgbm"}, "v.framework = 'lightgbm'"),
    ({"safety": "inert"}, "v.safety_label = 'inert'"),
    ({"safety": "not-inspected"}, "v.safety_label IS NULL"),
    ({"name": "m7"}, "v.name = 'm7'"),
    ({"name": "m7", "tag": "stage=s4"}, "v.name = 'm7' AND v.version %% 5 = 4"),
]


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("order_by", ["created_at", "name", "version"])
@pytest.mark.parametrize(("query", "condition"), FOUND, ids=[str(query) for query, _ in FOUND])
def test_pages_hold_all_that_was_asked_for_in_order(api, crowded, query, condition, order_by, order):
    w = api.sql("SELECT name FROM workspaces WHERE id = %s", crowded)[0]["name"]
    rows = f"SELECT v.name, v.version FROM model_versions v WHERE v.workspace_id = %s AND {condition}"
    expected = api.sql(f"{rows} ORDER BY v.{order_by} {order}, v.id {order}", crowded)
    asked = {**query, "order_by": order_by, "order": order, "limit": 12}

    pages = [api.admin.get(f"/v1/workspaces/{w}/model-versions", params=asked).json()]
    while token := pages[-1]["next_page_token"]:
        pages.append(api.admin.get(f"/v1/workspaces/{w}/model-versions", params={**asked, "page_token": token}).json())

    assert [(item["name"], item["version"]) for page in pages for item in page["items"]] == [
        (row["name"], row["version"]) for row in expected
    ]


@pytest.mark.parametrize("kind", sorted(queries.SHOW))
def test_one_version_is_found_by_an_index(api, crowded, kind):
    values = {
        "workspace_id": crowded,
        "name": "m7",
        "value": {"number": 7, "latest": "latest", "alias": "champion"}[kind],
    }
    with api.connection() as connection:
        assert wasted(connection, queries.SHOW[kind], values) == set()
