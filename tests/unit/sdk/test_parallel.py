"""Transfers really are under way at the same time: the server answers nobody before several have asked."""

from __future__ import annotations

import threading
from collections.abc import Callable

from keelway import downloads
from tests.unit.sdk import samples
from tests.unit.sdk.samples import entry, missing, sha256
from tests.unit.sdk.test_downloads import CONTENT, FILE, RANGE, hold_large, ranged
from tests.unit.sdk.test_models import VERSIONS, hold
from tests.unit.sdk.wire import Answer, Asked

AT_ONCE = 4
FILES = {f"mdl/{number}": f"content {number}".encode() for number in range(2 * AT_ONCE)}


def together(reply: Callable[[Asked], Answer]) -> Callable[[Asked], Answer]:
    """The same reply, once as many are asked for at the same time."""
    all_are_there = threading.Barrier(AT_ONCE)

    def wait(asked: Asked) -> Answer:
        all_are_there.wait(10)  # which fails for all when one does not come
        return reply(asked)

    return wait


def test_files_are_sent_side_by_side(wire, client, tmp_path):
    (tmp_path / "mdl").mkdir()
    for path, content in FILES.items():
        (tmp_path / path).write_bytes(content)
    entries = [entry(path, content) for path, content in FILES.items()]
    wanted = [missing(path, content) for path, content in FILES.items()]
    wire.on(f"POST {VERSIONS}", Answer(201, samples.version(entries, wanted=wanted)))
    wire.on(f"POST {VERSIONS}/1/commit", Answer(200, samples.version(entries)))
    stored = together(lambda _: Answer(201))
    for content in FILES.values():
        wire.on(f"PUT /v1/blobs/{sha256(content)}", stored)

    client.models.register("ridge", tmp_path / "mdl")

    assert sorted(put.body for put in wire.of("PUT")) == sorted(FILES.values())


def test_files_are_fetched_side_by_side(wire, client, tmp_path):
    hold(wire, FILES)
    fetched = together(lambda asked: Answer(200, FILES[f"mdl/{asked.path[-1]}"]))
    for path in FILES:
        wire.on(f"GET {VERSIONS}/1/files/{path}", fetched)

    path = client.models.download("ridge", 1, tmp_path / "to")

    assert {f"mdl/{file.name}": file.read_bytes() for file in path.iterdir()} == FILES


def test_ranges_of_one_file_are_fetched_side_by_side(wire, client, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "RANGE_BYTES", len(CONTENT) // AT_ONCE)
    hold_large(wire)
    wire.on(f"GET {FILE}", together(ranged(CONTENT)))
    assert len(CONTENT) % AT_ONCE == 0
    assert len(CONTENT) // AT_ONCE > RANGE

    assert (client.models.download("ridge", 1, tmp_path / "to") / "big.bin").read_bytes() == CONTENT
