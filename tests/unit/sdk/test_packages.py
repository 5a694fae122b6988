"""Packages on the client's side: asked for, saved whole or not at all, loaded."""

from __future__ import annotations

import io
import stat
import tarfile

import pytest

from keelway.errors import DamagedDownload, InvalidInput, KeelwayError
from keelway.inference import InferenceSource
from tests.support.model_files import tarred
from tests.unit.sdk import samples
from tests.unit.sdk.samples import PACKAGE_ID, sha256
from tests.unit.sdk.wire import Answer

W = "/v1/workspaces/default"
PATH = f"{W}/packages/{PACKAGE_ID}"
FILES = {"Dockerfile": b"FROM x", "azureml-app/source/score.py": b"def run(x): return x"}


def offer(wire, data, **fields):
    """Have the server offer a package with these bytes."""
    archive = {"sha256": sha256(data), "size_bytes": len(data)}
    wire.on(f"GET {PATH}", Answer(body=samples.package(archive=archive, **fields)))
    wire.on(f"GET {PATH}/download", Answer(body=data))


def test_what_a_package_needs_is_made_first(wire, client, tmp_path):
    (tmp_path / "score.py").write_text("")
    (tmp_path / "steps").write_text("RUN x")
    wire.on(f"POST {W}/snapshots", Answer(201, samples.snapshot()))
    wire.on(f"POST {W}/environments/ridge-env/versions", Answer(201, samples.environment("ridge-env")))
    wire.on(f"POST {W}/packages", Answer(202, samples.package(state="creating")))
    wire.on(f"GET /v1/operations/{samples.OPERATION_ID}", Answer(body=samples.operation()))
    wire.on(f"GET {PATH}", Answer(body=samples.package()))
    source = InferenceSource(entry_script="score.py", source_directory=tmp_path, extra_docker_file_steps="steps")

    handle = client.packages.create(["ridge"], source, image_name="team/ridge")

    assert handle.state == "creating"
    assert handle.wait(10).state == "ready"
    sent = wire.of("POST", f"{W}/packages")[0].json
    assert (sent["models"], sent["image_name"], sent["kind"]) == (["ridge:latest"], "team/ridge", "image")
    assert sent["inference_config"]["extra_docker_file_steps"] == "RUN x"
    assert "image_label" not in sent


def test_an_image_is_saved_as_a_tar(wire, client, tmp_path):
    data = tarred(FILES)
    offer(wire, data)

    assert client.packages.save(PACKAGE_ID, tmp_path / "x.tar").read_bytes() == data
    with pytest.raises(InvalidInput, match="exists already"):
        client.packages.save(PACKAGE_ID, tmp_path / "x.tar")


def test_a_folder_is_saved_so_that_whoever_runs_in_the_image_can_read_it(wire, client, tmp_path):
    offer(wire, tarred(FILES), kind="dockerfile")

    folder = client.packages.save(PACKAGE_ID, tmp_path / "deep" / "x")

    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == FILES
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")} == {0o755, 0o644}
    assert [path.name for path in folder.parent.iterdir()] == ["x"]
    with pytest.raises(InvalidInput, match="not an empty folder"):
        client.packages.save(PACKAGE_ID, folder)
    (folder / "Dockerfile").unlink()
    client.packages.save(PACKAGE_ID, folder, exist_ok=True)
    assert (folder / "Dockerfile").read_bytes() == b"FROM x"


@pytest.mark.parametrize("kind", ["image", "dockerfile"])
def test_wrong_bytes_leave_nothing(wire, client, tmp_path, kind):
    offer(wire, tarred(FILES), kind=kind)
    wire.on(f"GET {PATH}/download", Answer(body=tarred({"Dockerfile": b"FROM evil"})))

    with pytest.raises(DamagedDownload):
        client.packages.save(PACKAGE_ID, tmp_path / "x")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../outside", "/absolute", "a/../../outside"])
def test_a_file_that_would_lie_elsewhere_is_refused(wire, client, tmp_path, name):
    offer(wire, tarred({name: b"x"}), kind="dockerfile")

    with pytest.raises(DamagedDownload):
        client.packages.save(PACKAGE_ID, tmp_path / "in" / "x")

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_link_in_a_package_is_refused(wire, client, tmp_path):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    offer(wire, stream.getvalue(), kind="dockerfile")

    with pytest.raises(DamagedDownload):
        client.packages.save(PACKAGE_ID, tmp_path / "x")


def test_what_is_not_ready_says_why(wire, client, tmp_path):
    wire.on(f"GET {PATH}", Answer(body=samples.package(state="failed", reason="no room is left")))

    with pytest.raises(InvalidInput, match="no room is left"):
        client.packages.save(PACKAGE_ID, tmp_path / "x")


def test_pulling_needs_docker_and_an_image(wire, client, monkeypatch, tmp_path):
    offer(wire, tarred(FILES))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KeelwayError, match="no `docker` command"):
        client.packages.pull(PACKAGE_ID)

    (tmp_path / "docker").write_text("#!/bin/sh\necho no engine >&2\nexit 1\n")
    (tmp_path / "docker").chmod(0o755)
    with pytest.raises(KeelwayError, match="no engine"):
        client.packages.pull(PACKAGE_ID)
