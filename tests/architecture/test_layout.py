"""What lies where, and that what is generated is up to date."""

import ast
import json
import subprocess
from pathlib import Path

import pytest
from openapi_spec_validator import validate

from keelway import errors as sdk_errors
from keelway.contracts.problems import PROBLEMS
from keelway_api import errors as api_errors
from keelway_api.openapi import document
from tests.support.routes import all_routes

ROOT = Path(__file__).resolve().parents[2]
TOP_LEVEL = {"api", "workers", "sdk", "runtime", "standalone", "migrations", "tests", "openapi", "docs", "examples"}


def tracked(pattern="*"):
    done = subprocess.run(["git", "ls-files", pattern], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip("not a checkout")
    return [Path(line) for line in done.stdout.splitlines() if (ROOT / line).exists()]


def test_the_top_level_is_the_agreed_one():
    folders = {path.parts[0] for path in tracked() if len(path.parts) > 1}

    assert folders >= TOP_LEVEL
    assert folders - TOP_LEVEL <= {"benchmarks", "dashboard", ".ci", "deploy"}


def test_each_feature_of_the_api_is_a_folder_of_its_own():
    api = ROOT / "api/keelway_api"
    features = {path.parent.name for path in api.glob("*/tables.py")} | {
        path.parent.name for path in api.glob("*/router.py")
    }

    assert features == {
        *("audit", "auth", "blobs", "environments", "experiments", "gateway", "health", "images", "inspections"),
        *("manifests", "models", "nodes", "operations", "packages", "services", "snapshots", "upkeep", "workspaces"),
    }


@pytest.mark.parametrize("path", sorted((ROOT / "api/keelway_api").rglob("*.py")), ids=lambda path: path.name)
def test_everything_public_in_the_api_says_what_it_gives(path):
    tree = ast.parse(path.read_text())
    public = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    nodes = [node for node in tree.body if isinstance(node, public)]
    nodes += [method for node in tree.body if isinstance(node, ast.ClassDef) for method in node.body]
    silent = [
        node.name
        for node in nodes
        if isinstance(node, public) and not node.name.startswith("_") and not ast.get_docstring(node)
    ]

    assert silent == []
    assert path.name == "__init__.py" or ast.get_docstring(tree)


def test_routers_never_write_sql_and_features_never_use_another_s_queries():
    for path in (ROOT / "api/keelway_api").rglob("*.py"):
        imports = [line for line in path.read_text().splitlines() if line.startswith(("import ", "from "))]
        if path.name.endswith("router.py"):
            assert not [line for line in imports if line.startswith(("from sqlalchemy", "import sqlalchemy"))], path
        feature = path.parent.name
        for line in imports:
            if "import queries" in line or ".queries import" in line:
                assert f"keelway_api.{feature}" in line, f"{path}: {line}"


def test_the_committed_openapi_document_is_that_of_the_code():
    committed = (ROOT / "openapi/openapi.json").read_text()

    assert committed == document(), "run: python -m keelway_api.openapi > openapi/openapi.json"


def test_the_openapi_document_is_valid_and_complete():
    found = json.loads(document())

    validate(found)
    shown = {(method.upper(), path) for path, item in found["paths"].items() for method in item}
    wanted = {(method, path.replace(":path}", "}")) for method, path in all_routes() if path != "/openapi.json"}
    assert shown == wanted


def test_api_sdk_and_contracts_know_the_same_problems():
    raised = {kind.type for kind in _subclasses(api_errors.Problem)} | {api_errors.Problem.type}

    assert raised == set(PROBLEMS)
    assert set(sdk_errors.CLASSES) == set(PROBLEMS)
    for name in PROBLEMS:
        assert sdk_errors.CLASSES[name].__name__ == sdk_errors.class_name(name)
    for kind in _subclasses(api_errors.Problem):
        assert kind.__name__ == sdk_errors.class_name(kind.type)


def _subclasses(parent):
    for child in parent.__subclasses__():
        yield child
        yield from _subclasses(child)
