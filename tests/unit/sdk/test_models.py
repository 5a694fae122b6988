"""Registering and downloading: which files, which bytes, and what a hostile server cannot do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from keelway.contracts.files import FileEntry
from keelway.contracts.models import ResourceRequirements
from keelway.errors import DigestMismatch, InvalidInput
from keelway.uploads import model_files
from tests.unit.sdk import samples
from tests.unit.sdk.samples import entry, missing, sha256
from tests.unit.sdk.wire import Answer, Asked, Wire, problem

VERSIONS = "/v1/workspaces/default/models/ridge/versions"
BUSY = problem(503, "dependency-away", headers={"Retry-After": "0"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "mdl"
    (made / "sub").mkdir(parents=True)
    (made / "a.txt").write_bytes(b"alpha")
    (made / "sub" / "b.txt").write_bytes(b"beta")
    return made


def offer(wire: Wire, files: dict[str, bytes], *, wanted: list | None = None) -> None:
    """Have the server take a registration of these files, all of them missing unless `wanted` says which."""
    entries = [entry(path, content) for path, content in files.items()]
    wanted = [missing(path, content) for path, content in files.items()] if wanted is None else wanted
    wire.on(f"POST {VERSIONS}", Answer(201, samples.version(entries, wanted=wanted)))
    wire.on(f"POST {VERSIONS}/1/commit", Answer(200, samples.version(entries)))
    for content in files.values():
        wire.on(f"PUT /v1/blobs/{sha256(content)}", Answer(201))


def hold(wire: Wire, files: dict[str, bytes], *, listed: list[FileEntry] | None = None) -> None:
    """Have the server hold a version with these files; `listed` is what it says about them."""
    entries = listed or [entry(path, content) for path, content in files.items()]
    for version in ("1", "latest"):
        wire.on(f"GET {VERSIONS}/{version}", Answer(200, samples.version(entries)))
    for path, content in files.items():
        wire.on(f"GET {VERSIONS}/1/files/{path}", Answer(200, content))


def test_a_folder_keeps_its_base_name(folder):
    assert list(model_files(folder)) == ["mdl/a.txt", "mdl/sub/b.txt"]


def test_a_file_goes_by_its_base_name(folder):
    assert list(model_files(folder / "sub" / "b.txt")) == ["b.txt"]


def test_the_current_folder_has_a_name_too(folder, monkeypatch):
    monkeypatch.chdir(folder / "sub")

    assert list(model_files(Path())) == ["sub/b.txt"]
    assert list(model_files(Path(".."))) == ["mdl/a.txt", "mdl/sub/b.txt"]


@pytest.mark.parametrize(
    ("children", "expected"),
    [(["sub"], ["mdl/sub/b.txt"]), (["a.txt"], ["mdl/a.txt"]), (["sub/b.txt", "sub"], ["mdl/sub/b.txt"])],
)
def test_child_paths_pick_from_a_folder(folder, children, expected):
    assert list(model_files(folder, children)) == expected


@pytest.mark.parametrize("child", ["nope", "../other.txt", "/etc/passwd"])
def test_a_child_path_must_be_in_the_folder(folder, child):
    (folder.parent / "other.txt").write_text("x")

    with pytest.raises(InvalidInput):
        model_files(folder, [child])


def test_a_missing_path_and_an_empty_folder_are_refused(tmp_path):
    (tmp_path / "empty" / "inner").mkdir(parents=True)

    with pytest.raises(InvalidInput, match="does not exist"):
        model_files(tmp_path / "nope")
    with pytest.raises(InvalidInput, match="no files"):
        model_files(tmp_path / "empty")


def test_a_link_inside_the_folder_is_followed_and_one_that_leaves_is_refused(folder):
    (folder / "link.txt").symlink_to("a.txt")
    (folder / "again").symlink_to("sub")
    assert "mdl/link.txt" in model_files(folder)
    assert "mdl/again/b.txt" in model_files(folder)

    (folder / "out").symlink_to(folder.parent)
    with pytest.raises(InvalidInput, match="leaves the folder"):
        model_files(folder)


@pytest.mark.parametrize(("target", "message"), [("nowhere", "broken link"), (".", "lies in")])
def test_links_that_lead_nowhere_or_around_are_refused(folder, target, message):
    (folder / "link").symlink_to(target)

    with pytest.raises(InvalidInput, match=message):
        model_files(folder)


def test_something_that_is_neither_file_nor_folder_is_refused(folder):
    os.mkfifo(folder / "pipe")

    with pytest.raises(InvalidInput, match="neither a file nor a folder"):
        model_files(folder)


def test_registering_sends_manifest_bytes_and_commit(wire, client, folder):
    offer(wire, {"mdl/a.txt": b"alpha", "mdl/sub/b.txt": b"beta"})

    version = client.models.register(
        "ridge", folder, tags={"k": "v"}, resource_requirements=ResourceRequirements(cpu=1)
    )

    assert (version.id, version.state) == ("ridge:1", "ready")
    opened = wire.of("POST", VERSIONS)[0].json
    assert opened["tags"] == {"k": "v"}
    assert opened["resource_requirements"] == {"cpu": 1}
    assert [file["path"] for file in opened["files"]] == ["mdl/a.txt", "mdl/sub/b.txt"]
    assert sorted(put.body for put in wire.of("PUT")) == [b"alpha", b"beta"]
    assert all(put.headers["content-length"] == str(len(put.body)) for put in wire.of("PUT"))
    assert wire.asked[-1].path.endswith("/1/commit")


def test_only_what_is_missing_is_sent(wire, client, folder):
    offer(wire, {"mdl/a.txt": b"alpha", "mdl/sub/b.txt": b"beta"}, wanted=[missing("mdl/sub/b.txt", b"beta")])

    client.models.register("ridge", folder)

    assert [put.body for put in wire.of("PUT")] == [b"beta"]


def test_the_same_bytes_under_two_names_are_sent_once(wire, client, tmp_path):
    (tmp_path / "m").mkdir()
    for name in ("x", "y"):
        (tmp_path / "m" / name).write_bytes(b"same")
    offer(wire, {"m/x": b"same", "m/y": b"same"})

    client.models.register("ridge", tmp_path / "m")

    assert len(wire.of("PUT")) == 1


def test_an_empty_file_is_sent(wire, client, tmp_path):
    (tmp_path / "empty.bin").write_bytes(b"")
    offer(wire, {"empty.bin": b""})

    client.models.register("ridge", tmp_path / "empty.bin")

    assert [put.headers["content-length"] for put in wire.of("PUT")] == ["0"]


def test_an_upload_that_was_cut_is_sent_again_whole(wire, client, tmp_path):
    content = os.urandom(3_000_000)
    (tmp_path / "m.bin").write_bytes(content)
    offer(wire, {"m.bin": content})
    wire.on(f"PUT /v1/blobs/{sha256(content)}", Answer(drop=True), BUSY, Answer(201))
    seen: list[tuple[str, int, int]] = []

    client.models.register("ridge", tmp_path / "m.bin", progress=lambda *step: seen.append(step))

    assert [put.body == content for put in wire.of("PUT")] == [True, True, True]
    assert seen[-1] == ("upload", len(content), len(content))
    assert max(done for _, done, _ in seen) == len(content)
    assert ("hash", len(content), len(content)) in seen


def test_a_refused_upload_raises_its_problem_and_nothing_is_committed(wire, client, tmp_path):
    (tmp_path / "m.bin").write_bytes(b"bytes")
    offer(wire, {"m.bin": b"bytes"})
    wire.on(f"PUT /v1/blobs/{sha256(b'bytes')}", problem(422, "digest-mismatch", "other bytes"))

    with pytest.raises(DigestMismatch):
        client.models.register("ridge", tmp_path / "m.bin")
    assert not [asked for asked in wire.asked if asked.path.endswith("/commit")]


@pytest.mark.parametrize("now", [b"longer than it was", b"x"])
def test_a_file_that_changes_while_it_is_uploaded_is_said_clearly(wire, client, tmp_path, now):
    file = tmp_path / "m.bin"
    file.write_bytes(b"12345")
    offer(wire, {"m.bin": b"12345"})

    def change(asked: Asked) -> Answer:
        file.write_bytes(now)
        return Answer(201, samples.version([entry("m.bin", b"12345")], wanted=[missing("m.bin", b"12345")]))

    wire.on(f"POST {VERSIONS}", change)

    with pytest.raises(InvalidInput, match="changed while it was uploaded"):
        client.models.register("ridge", file)


def test_a_server_cannot_ask_for_other_files(wire, client, tmp_path):
    (tmp_path / "m.bin").write_bytes(b"bytes")
    offer(wire, {"m.bin": b"bytes"}, wanted=[missing("/etc/passwd", b"x")])

    with pytest.raises(InvalidInput, match="not part of this upload"):
        client.models.register("ridge", tmp_path / "m.bin")


def test_what_the_wire_would_refuse_is_refused_before_anything_is_sent(wire, client, tmp_path):
    (tmp_path / "m\n.bin").write_bytes(b"x")
    (tmp_path / "m.bin").write_bytes(b"x")

    with pytest.raises(InvalidInput, match="control"):
        client.models.register("ridge", tmp_path / "m\n.bin")
    with pytest.raises(InvalidInput, match="framework_version needs a framework"):
        client.models.register("ridge", tmp_path / "m.bin", framework_version="1")
    assert not wire.asked


def test_the_first_failure_stops_the_other_uploads(wire, client, tmp_path):
    (tmp_path / "m").mkdir()
    contents = {f"m/{number}": os.urandom(100) for number in range(40)}
    for path, content in contents.items():
        (tmp_path / path).write_bytes(content)
    offer(wire, contents)
    for content in contents.values():
        wire.on(f"PUT /v1/blobs/{sha256(content)}", problem(422, "digest-mismatch"))

    with pytest.raises(DigestMismatch):
        client.models.register("ridge", tmp_path / "m")
    assert len(wire.of("PUT")) < 20


def test_ctrl_c_does_not_wait_for_the_rest_of_a_huge_file(client, tmp_path, wire):
    (tmp_path / "huge.bin").write_bytes(b"")
    os.truncate(tmp_path / "huge.bin", 1 << 40)  # a sparse TiB: hours to hash
    script = (
        "import sys, keelway\n"
        "kw = keelway.Client(sys.argv[1])\n"
        "kw.models.register('ridge', sys.argv[2], progress=lambda *step: print('going', flush=True))"
    )
    command = [sys.executable, "-c", script, wire.url, str(tmp_path / "huge.bin")]

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)

    assert b"KeyboardInterrupt" in errors


def test_a_version_may_be_part_of_the_name(wire, client):
    hold(wire, {"m.bin": b"x"})

    assert client.models.get("ridge:1").version == 1
    assert client.models.get("ridge", 1).version == 1
    assert client.models.get("ridge").version == 1
    assert [asked.path.rsplit("/", 1)[1] for asked in wire.asked] == ["1", "1", "latest"]


def test_names_in_paths_are_quoted(wire, client, tmp_path):
    wire.on(f"GET {VERSIONS}/1", Answer(200, samples.version([entry("a b?#%.bin", b"x")])))
    wire.on(f"GET {VERSIONS}/1/files/a%20b%3F%23%25.bin", Answer(200, b"x"))

    assert client.models.download("ridge", 1, tmp_path).name == "a b?#%.bin"


def test_a_list_can_be_asked_for_one_name(wire, client):
    for path in ("models", "environments", "services"):
        wire.on(f"GET /v1/workspaces/default/{path}", Answer(200, {"items": []}))

    assert [*client.models.list(name="r"), *client.environments.list(name="r"), *client.services.list(name="r")] == []
    assert [asked.query for asked in wire.asked] == ["name=r"] * 3


def test_a_model_itself_has_no_version_in_its_path(wire, client):
    wire.on(
        "GET /v1/workspaces/default/models/ridge",
        Answer(200, {"name": "ridge", "created_at": "2026-01-01T00:00:00Z", "latest": None}),
    )

    assert client.models.model("ridge").latest is None


@pytest.mark.parametrize(("name", "version"), [("ridge:", None), ("ridge", ""), ("ridge", 0)])
def test_an_empty_version_never_deletes_the_whole_model(wire, client, name, version):
    with pytest.raises(InvalidInput, match="names no version"):
        client.models.delete(name, version)

    assert wire.asked == []
