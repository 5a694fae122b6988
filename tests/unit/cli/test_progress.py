"""What people see of long work on a terminal; elsewhere it is plain lines."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import suppress

from tests.unit.sdk import samples
from tests.unit.sdk.samples import entry
from tests.unit.sdk.wire import Answer, Asked, Wire

VERSIONS = "/v1/workspaces/default/models/ridge/versions"


def on_a_terminal(*arguments: str) -> tuple[str, str]:
    """What a command says on stdout, and on a stderr that is a terminal."""
    ours, terminal = os.openpty()
    command = [sys.executable, "-c", "from keelway.cli import main; main()", *arguments]
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=terminal, env=env)
    os.close(terminal)
    seen = b""
    with suppress(OSError):  # which is how a terminal says that nobody has it open any more
        while piece := os.read(ours, 65536):
            seen += piece
    os.close(ours)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 0, seen
    return said.decode(), seen.decode()


def without_colours(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_a_transfer_is_a_bar_with_bytes_and_rate(wire: Wire, tmp_path):
    content = os.urandom(3_000_000)
    wire.on(f"GET {VERSIONS}/1", Answer(body=samples.version([entry("m.bin", content)])))
    wire.on(f"GET {VERSIONS}/1/files/m.bin", Answer(200, content))

    said, seen = on_a_terminal("model", "download", "ridge:1", "-t", str(tmp_path / "to"))

    assert said == f"{tmp_path}/to/m.bin\n"
    assert re.search(r"download ━+ 2\.9/2\.9 MiB [0-9.]+ MB/s", without_colours(seen)), seen
    assert "\x1b[" in seen


def reports(wire: Wire, path: str, *bodies: dict) -> None:
    left = list(bodies)

    def reply(_: Asked) -> Answer:
        return Answer(body=left.pop(0))

    wire.on(f"POST {path}", reply)


def gc_report(*, deleted: int, is_complete: bool) -> dict:
    return {
        "is_dry_run": False,
        "grace_s": 0,
        "abandoned_uploads": 0,
        "unreferenced_blobs": 7,
        "unreferenced_bytes": 70,
        "deleted_blobs": deleted,
        "deleted_bytes": 10 * deleted,
        "is_complete": is_complete,
    }


def scrub_report(*, left: int) -> dict:
    said = {"since": "2030-01-01T00:00:00Z", "checked_blobs": 4, "checked_bytes": 40, "damaged": []}
    return {**said, "remaining_blobs": left}


def test_rounds_of_upkeep_are_one_line_that_changes(wire: Wire):
    reports(wire, "/v1/gc", gc_report(deleted=4, is_complete=False), gc_report(deleted=3, is_complete=True))
    said, seen = on_a_terminal("gc")
    assert "7 blob(s), 70 B deleted" in said
    assert "4 of 7 blob(s) deleted" in without_colours(seen)

    reports(wire, "/v1/scrub", scrub_report(left=4), scrub_report(left=0))
    said, seen = on_a_terminal("scrub")
    assert said == "8 blob(s), 80 B read, 0 damaged\n"
    assert "4 blob(s) read, 4 to go" in without_colours(seen)


def test_rounds_of_upkeep_are_plain_lines_elsewhere(wire: Wire, keelway):
    reports(wire, "/v1/gc", gc_report(deleted=4, is_complete=False), gc_report(deleted=3, is_complete=True))
    reports(wire, "/v1/scrub", scrub_report(left=4), scrub_report(left=0))

    assert keelway("gc").stderr == "4 of 7 blob(s) deleted\n"
    assert keelway("scrub").stderr == "4 blob(s) read, 4 to go\n"
