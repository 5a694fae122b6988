"""Labels by a real worker, and a policy that goes by them, through the command line."""

from __future__ import annotations

import json
import pickle

import pytest

from keelway.contracts.services import InferenceConfig
from keelway.errors import UnsafeModel
from tests.support import model_files as make
from tests.support.api import wait_until
from tests.support.scripts import ECHO


def safety(user, version):
    """What the worker found, once it has."""
    return wait_until(lambda: user.client.models.get(version.id).safety, f"{version.id} is inspected", 60)


def test_whatever_gets_past_scanners_is_labelled_executable_and_never_runs(user, tmp_path):
    canary = tmp_path / "canary"
    folder = tmp_path / "bypasses"
    folder.mkdir()
    for name, data in make.bypasses(canary).items():
        (folder / name).write_bytes(data)

    found = safety(user, user.client.models.register("bypasses", folder))

    assert found.label == "executable"
    assert {f.path.split("/")[-1] for f in found.findings if f.severity in {"danger", "warning"}} == set(
        make.bypasses(canary)
    )
    assert not canary.exists()


def test_people_see_the_label_and_may_ask_for_it(keelway, user, tmp_path):
    (tmp_path / "m.safetensors").write_bytes(make.safetensors(b"\1" * 16))
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(make.Runs("true")))
    for name in ("m.safetensors", "m.pkl"):
        safety(user, user.client.models.register(name.replace(".", "-"), tmp_path / name))

    asked = keelway("model", "inspect", "m-pkl")
    shown = keelway("model", "show", "m-safetensors").stdout
    listed = keelway("model", "list", "--all-versions", "--safety", "inert", "--json").stdout

    assert asked.returncode == 0, asked.stderr
    assert "dangerous-import" in asked.stdout
    assert "inert: 1 safetensors" in shown
    assert "m-safetensors:1" in {item["id"] for item in json.loads(listed)}


def test_a_policy_of_the_workspace_is_shown_and_changed(keelway, user, tmp_path):
    assert keelway("workspace", "create", "careful").returncode == 0

    changed = keelway("workspace", "update", "careful", "--refuse-findings", "danger")
    wrong = keelway("workspace", "update", "careful", "--refuse-findings", "everything")

    assert "danger" in changed.stdout
    assert wrong.returncode != 0
    assert "danger" in keelway("workspace", "show", "careful").stdout


def test_a_model_with_findings_is_not_deployed_where_they_are_refused(user, tmp_path):
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(make.Runs("false")))
    version = user.client.models.register("refused", tmp_path / "m.pkl")
    safety(user, version)
    snapshot = user.snapshot(ECHO)
    inference = InferenceConfig(entry_script="score.py", snapshot=snapshot, environment=user.environment)
    user.client.workspaces.update("default", refuse_findings="danger")
    try:
        with pytest.raises(UnsafeModel, match=r"posix\.system"):
            user.client.services.deploy("refused-svc", [version.id], inference)
    finally:
        user.client.workspaces.update("default", refuse_findings="none")
