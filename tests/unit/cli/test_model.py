"""`keelway model`, but for deploy."""

from __future__ import annotations

import json

from tests.unit.sdk import samples
from tests.unit.sdk.samples import entry, missing, sha256
from tests.unit.sdk.wire import Answer

VERSIONS = "/v1/workspaces/default/models/ridge/versions"
FILES = [entry("m.bin", b"bytes")]


def test_register_shows_progress_as_plain_lines_and_the_result(wire, keelway, tmp_path):
    (tmp_path / "m.bin").write_bytes(b"bytes")
    wire.on(f"POST {VERSIONS}", Answer(201, samples.version(FILES, wanted=[missing("m.bin", b"bytes")])))
    wire.on(f"PUT /v1/blobs/{sha256(b'bytes')}", Answer(201))
    wire.on(f"POST {VERSIONS}/1/commit", Answer(200, samples.version(FILES)))

    result = keelway(
        "model", "register", "-n", "ridge", "-p", str(tmp_path / "m.bin"), "--tag", "a=b=c", "--property", "k=v",
        "-d", "text", "--framework", "ScikitLearn", "--framework-version", "1.5", "--cpu", "0.5", "--gpu", "1",
    )  # fmt: skip

    assert result.exit_code == 0
    assert result.stdout == "registered ridge:1 (1 file(s), 5 B)\n"
    assert "upload: 5 B of 5 B" in result.stderr
    sent = wire.of("POST")[0].json
    assert sent["tags"] == {"a": "b=c"}
    assert sent["properties"] == {"k": "v"}
    assert (sent["framework"], sent["framework_version"], sent["description"]) == ("ScikitLearn", "1.5", "text")
    assert sent["resource_requirements"] == {"cpu": 0.5, "gpu": 1}


def test_register_with_json_prints_the_version_only(wire, keelway, tmp_path):
    (tmp_path / "m.bin").write_bytes(b"bytes")
    wire.on(f"POST {VERSIONS}", Answer(201, samples.version(FILES)))
    wire.on(f"POST {VERSIONS}/1/commit", Answer(200, samples.version(FILES)))

    result = keelway("model", "register", "-n", "ridge", "-p", str(tmp_path / "m.bin"), "--json")

    assert json.loads(result.stdout)["id"] == "ridge:1"


def test_register_of_nothing_is_an_error(wire, keelway, tmp_path):
    result = keelway("model", "register", "-n", "ridge", "-p", str(tmp_path / "nope"))

    assert result.exit_code == 1
    assert "does not exist" in result.stderr
    assert not wire.asked


def test_list_shows_models_or_the_versions_of_one(wire, keelway):
    model = {"name": "ridge", "created_at": "2030-01-01T00:00:00Z", "latest": samples.version(FILES)}
    bare = {"name": "bare", "created_at": "2030-01-01T00:00:00Z", "latest": None}
    wire.on("GET /v1/workspaces/default/models", Answer(body={"items": [model, bare]}))
    versions = {"items": [samples.version([], size_bytes=2_000_000)]}
    wire.on("GET /v1/workspaces/default/model-versions", Answer(body=versions))

    assert [line.split()[0] for line in keelway("model", "list").stdout.splitlines()] == ["name", "ridge", "bare"]
    assert "1.9 MiB" in keelway("model", "list", "-n", "ridge").stdout
    assert json.loads(keelway("model", "list", "--json").stdout)[0]["latest"]["id"] == "ridge:1"


def test_show_takes_the_id_as_argument_or_option(wire, keelway):
    wire.on(f"GET {VERSIONS}/1", Answer(body=samples.version(FILES, tags={"a": "b"})))

    by_argument = keelway("model", "show", "ridge:1").stdout

    assert by_argument == keelway("model", "show", "--model-id", "ridge:1").stdout
    assert "a=b" in by_argument
    assert sha256(b"bytes") in by_argument


def test_download_prints_where_it_is(wire, keelway, tmp_path):
    wire.on(f"GET {VERSIONS}/1", Answer(body=samples.version(FILES)))
    wire.on(f"GET {VERSIONS}/1/files/m.bin", Answer(200, b"bytes"))

    arguments = ("model", "download", "--model-id", "ridge:1", "--target-dir", str(tmp_path / "to"), "--json")
    result = keelway(*arguments)

    assert json.loads(result.stdout) == {"id": "ridge:1", "path": str(tmp_path / "to" / "m.bin")}
    assert (tmp_path / "to" / "m.bin").read_bytes() == b"bytes"
    assert keelway(*arguments).exit_code == 1
    assert keelway(*arguments, "--exist-ok").exit_code == 0
