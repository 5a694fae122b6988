"""`keelway model`, but for deploy."""

from __future__ import annotations

import json
import re
import tarfile
import time

import pytest

from keelway.contracts.models import Dataset, ResourceRequirements
from keelway.contracts.safety import Finding, Safety, SafetyLabel, Severity
from tests.unit.sdk import samples
from tests.unit.sdk.samples import entry, missing, sha256
from tests.unit.sdk.test_downloads import tar_of
from tests.unit.sdk.wire import Answer, problem

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


def test_list_is_ordered_and_ends_where_told(wire, keelway):
    model = {"name": "ridge", "created_at": "2030-01-01T00:00:00Z", "latest": samples.version(FILES)}
    wire.on("GET /v1/workspaces/default/models", Answer(body={"items": [model] * 3, "next_page_token": "t"}))
    wire.on("GET /v1/workspaces/default/model-versions", Answer(body={"items": [samples.version([])]}))

    shown = keelway("model", "list", "--order-by", "name", "--order", "desc", "--limit", "2", "--json")
    latest = keelway("model", "list", "--latest-only", "--order-by", "version")

    assert len(json.loads(shown.stdout)) == 2
    assert [asked.query for asked in wire.asked] == ["order_by=name&order=desc", "latest_only=true&order_by=version"]
    assert "ridge:1" in latest.stdout


def test_files_lists_all_of_them_with_their_digests(wire, keelway):
    many = [entry(f"mdl/{number:03}", b"x") for number in range(100)]
    wire.on(f"GET {VERSIONS}/1/files", Answer(body={"items": [file.model_dump() for file in many]}))

    lines = keelway("model", "files", "ridge:1").stdout.splitlines()

    assert len(lines) == 101
    assert lines[1].split() == ["mdl/000", "1", "B", sha256(b"x")]
    assert len(json.loads(keelway("model", "files", "ridge:1", "--json").stdout)) == 100


def test_update_changes_needs_one_by_one_and_removes_samples(wire, keelway, tmp_path):
    seen = samples.version(FILES, resource_requirements=ResourceRequirements(cpu=1, gpu=1), sample_input=[1])
    wire.on(f"GET {VERSIONS}/1", Answer(body=seen))
    wire.on(f"PATCH {VERSIONS}/1", Answer(body=seen))

    done = keelway("model", "update", "ridge:1", "--cpu", "2", "--memory-gb", "4", "--remove-sample-input")

    assert done.exit_code == 0
    assert wire.of("PATCH")[0].json == {
        "resource_requirements": {"cpu": 2, "memory_gb": 4, "gpu": 1},
        "sample_input": None,
    }


def test_show_takes_the_id_as_argument_or_option(wire, keelway):
    wire.on(f"GET {VERSIONS}/1", Answer(body=samples.version(FILES, tags={"a": "b"})))

    by_argument = keelway("model", "show", "ridge:1").stdout

    assert by_argument == keelway("model", "show", "--model-id", "ridge:1").stdout
    assert "a=b" in by_argument
    assert sha256(b"bytes")[:12] in by_argument


def test_download_prints_where_it_is(wire, keelway, tmp_path):
    wire.on(f"GET {VERSIONS}/1", Answer(body=samples.version(FILES)))
    wire.on(f"GET {VERSIONS}/1/files/m.bin", Answer(200, b"bytes"))

    arguments = ("model", "download", "--model-id", "ridge:1", "--target-dir", str(tmp_path / "to"), "--json")
    result = keelway(*arguments)

    assert json.loads(result.stdout) == {"id": "ridge:1", "path": str(tmp_path / "to" / "m.bin")}
    assert (tmp_path / "to" / "m.bin").read_bytes() == b"bytes"
    assert keelway(*arguments).exit_code == 1
    assert keelway(*arguments, "--exist-ok").exit_code == 0


def test_download_of_one_file_and_of_an_archive(wire, keelway, tmp_path):
    files = {"mdl/a.txt": b"alpha", "mdl/sub/b.txt": b"beta"}
    wire.on(f"GET {VERSIONS}/1", Answer(body=samples.version([entry(*file) for file in files.items()])))
    wire.on(f"GET {VERSIONS}/1/files/mdl/sub/b.txt", Answer(200, b"beta"))
    wire.on(f"GET {VERSIONS}/1/archive", Answer(200, tar_of(files)))

    one = keelway("model", "download", "ridge:1", "--file", "mdl/sub/b.txt", "-t", str(tmp_path))
    all_ = keelway("model", "download", "ridge:1", "--tar", "-t", str(tmp_path), "--json")

    assert one.stdout == f"{tmp_path}/b.txt\n"
    assert (tmp_path / "b.txt").read_bytes() == b"beta"
    assert json.loads(all_.stdout) == {"id": "ridge:1", "path": f"{tmp_path}/ridge-1.tar"}
    assert "download: 9 B of 9 B" in all_.stderr
    with tarfile.open(tmp_path / "ridge-1.tar") as archive:
        assert archive.getnames() == list(files)


@pytest.fixture
def utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def rich_version():
    """A version of which everything is known."""
    finding = Finding(path="mdl/m.pkl", kind="pickle", severity=Severity.DANGER, code="dangerous-import", detail="os")
    return samples.version(
        [entry("mdl/m.pkl", b"a pickle"), entry("mdl/notes.md", b"n" * 2000)],
        description="the better one\nof two",
        framework="ScikitLearn",
        framework_version="1.7",
        resource_requirements=ResourceRequirements(cpu=0.5, memory_gb=2),
        tags={"stage": "prod", "team": "x"},
        properties={"commit": "4f2a"},
        datasets=[Dataset(scenario="training", id="diabetes:3")],
        sample_input={"data": [[1, 2]]},
        aliases=["champion", "blue"],
        run="churn/r1",
        used_by=["ridge-svc"],
        requires_approval=True,
        safety=Safety(
            label=SafetyLabel.EXECUTABLE,
            inspector="i",
            inspected_at=samples.NOW,
            kinds={"pickle": 1, "text": 1},
            findings_by_severity={Severity.DANGER: 1},
            findings=[finding],
        ),
    )


def test_show_is_a_page_that_people_read(wire, keelway, utc):
    wire.on(f"GET {VERSIONS}/1", Answer(body=rich_version()))

    assert (
        keelway("model", "show", "ridge:1").stdout
        == """\
ridge:1  ready

What it is
  description   the better one
                of two
  framework     ScikitLearn 1.7
  needs         0.5 core(s), 2 GB
  aliases       champion, blue
  tags          stage=prod, team=x
  properties    commit=4f2a
  sample input  {"data": [[1, 2]]}
  approval      required, not given yet

Files: 2.0 KiB in 2 file(s), digest dddddddddddd
  file          size     sha256
  mdl/m.pkl     8 B      16fadaba7e7d
  mdl/notes.md  2.0 KiB  5d5ee0455cb1

Safety
  executable: 1 pickle, 1 text; looked at 2030-01-02 03:04:05

  severity  in file    finding           detail
  danger    mdl/m.pkl  dangerous-import  os

Lineage
  run       churn/r1
  datasets  diabetes:3 (training)
  used by   ridge-svc
  created   2030-01-02 03:04:05 by me
"""
    )


def test_show_leaves_out_what_is_not_known(wire, keelway, utc):
    wire.on(f"GET {VERSIONS}/1", Answer(body=samples.version(FILES)))

    assert (
        keelway("model", "show", "ridge:1").stdout
        == """\
ridge:1  ready

Files: 5 B in 1 file(s), digest dddddddddddd
  file   size  sha256
  m.bin  5 B   277089d91c0b

Safety
  not inspected yet

Lineage
  created  2030-01-02 03:04:05 by me
"""
    )


def test_show_cuts_a_long_list_of_files_and_says_where_the_rest_is(wire, keelway):
    many = [entry(f"mdl/{number:03}", b"x") for number in range(100)]
    wire.on(f"GET {VERSIONS}/1", Answer(body=samples.version(many)))

    shown = keelway("model", "show", "ridge:1").stdout

    assert len(re.findall(r"mdl/\d", shown)) == 20
    assert "100 file(s)" in shown
    assert "... and 80 more: keelway model files ridge:1\n" in shown


TRAP = "\x1b[2J\x9b31m\u202eevil\x07\r\u2028"


def test_nothing_that_others_wrote_has_power_over_the_terminal(wire, keelway):
    hostile = samples.version(
        [entry(f"m{TRAP}.bin", b"x")],
        description=f"one\n{TRAP}",
        tags={TRAP: TRAP},
        properties={"k": f"a\nstate  ready{TRAP}"},
        framework=TRAP,
        aliases=[TRAP],
        sample_input=TRAP,
        created_by=TRAP,
    )
    model = {"name": "ridge", "created_at": "2030-01-01T00:00:00Z", "latest": hostile}
    wire.on(f"GET {VERSIONS}/1", Answer(body=hostile))
    wire.on("GET /v1/workspaces/default/models", Answer(body={"items": [model]}))
    wire.on("GET /v1/workspaces/default/model-versions", Answer(body={"items": [hostile]}))
    wire.on(f"GET {VERSIONS}/2", problem(409, "corrupt-bytes", f"bad {TRAP}", paths=[TRAP]))
    plain = [("show", "ridge:1"), ("show", "ridge:2"), ("list",), ("list", "--all-versions")]

    for arguments in [*plain, *[(*some, "--json") for some in plain]]:
        result = keelway("model", *arguments)

        for said in (result.stdout, result.stderr):
            assert said.replace("\n", "").isprintable(), (arguments, said)
    assert "\\x1b[2J\\x9b31m\\u202eevil" in keelway("model", "show", "ridge:1").stdout
    assert json.loads(keelway("model", "show", "ridge:1", "--json").stdout)["framework"] == TRAP
    # More lines of a description stand below its first: none looks like a line of the page.
    assert "\nstate" not in keelway("model", "show", "ridge:1").stdout
