"""Downloading versions: all of it right or nothing to be seen, whatever the wire and the server do."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
from typing import Any

import pytest

from keelway import downloads
from keelway.errors import DamagedDownload, InvalidInput, Unreachable
from tests.unit.sdk.samples import entry
from tests.unit.sdk.test_models import VERSIONS, hold
from tests.unit.sdk.wire import Answer, Asked, Wire

RANGE = 64 * 1024
CONTENT = os.urandom(5 * RANGE + 1000)
FILE = f"{VERSIONS}/1/files/mdl/big.bin"


@pytest.fixture
def in_ranges(monkeypatch):
    monkeypatch.setattr(downloads, "RANGE_BYTES", RANGE)


def ranged(content: bytes, **how: Any):
    """A reply with the range that is asked for."""

    def reply(asked: Asked) -> Answer:
        first, last = asked.headers["range"].removeprefix("bytes=").split("-")
        headers = {"Content-Range": f"bytes {first}-{last or len(content) - 1}/{len(content)}"}
        return Answer(206, content[int(first) : int(last) + 1 if last else None], headers, **how)

    return reply


def hold_large(wire: Wire, content: bytes = CONTENT) -> None:
    """A version with a file of six ranges and a small one."""
    hold(wire, {"mdl/small.txt": b"small"}, listed=[entry("mdl/big.bin", CONTENT), entry("mdl/small.txt", b"small")])
    wire.on(f"GET {FILE}", ranged(content))


def asked_ranges(wire: Wire) -> list[int]:
    """The numbers of the ranges of the large file that were asked for."""
    starts = [asked.headers["range"].removeprefix("bytes=").split("-")[0] for asked in wire.of("GET", FILE)]
    return sorted(int(start) // RANGE for start in starts)


def break_off_after(wire: Wire, replies: int, content: bytes = CONTENT) -> None:
    """From now on the connection is cut after so many ranges of the large file."""
    answer = ranged(content)
    given: list[Asked] = []

    def reply(asked: Asked) -> Answer:
        given.append(asked)
        return answer(asked) if len(given) <= replies else Answer(206, b"x" * RANGE, answer(asked).headers, cut_at=0)

    wire.on(f"GET {FILE}", reply)


def test_a_download_gives_the_sole_top_level_entry(wire, client, tmp_path):
    hold(wire, {"mdl/a.txt": b"alpha", "mdl/sub/b.txt": b"beta"})

    path = client.models.download("ridge", "latest", tmp_path / "to")

    assert path == tmp_path / "to" / "mdl"
    assert (path / "a.txt").read_bytes() == b"alpha"
    assert (path / "sub" / "b.txt").read_bytes() == b"beta"


def test_a_download_replaces_nothing_unless_told(wire, client, tmp_path):
    hold(wire, {"m.bin": b"new"})
    (tmp_path / "m.bin").write_bytes(b"old")

    with pytest.raises(InvalidInput, match="exists already"):
        client.models.download("ridge", 1, tmp_path)
    client.models.download("ridge", 1, tmp_path, exist_ok=True)

    assert (tmp_path / "m.bin").read_bytes() == b"new"


@pytest.mark.parametrize("sent", [b"other", b"expecteX", b"expected and more", b""])
def test_wrong_bytes_are_never_kept(wire, client, tmp_path, sent):
    hold(wire, {"m.bin": sent}, listed=[entry("m.bin", b"expected")])

    with pytest.raises(DamagedDownload):
        client.models.download("ridge", 1, tmp_path / "to")
    assert list((tmp_path / "to").iterdir()) == []


@pytest.mark.parametrize("supports_range", [True, False])
def test_a_cut_download_goes_on(wire, client, tmp_path, supports_range):
    content = os.urandom(200_000)
    hold(wire, {"m.bin": content})

    def rest(asked: Asked) -> Answer:
        assert asked.headers["range"].startswith("bytes=")
        return ranged(content)(asked) if supports_range else Answer(200, content)

    wire.on(f"GET {VERSIONS}/1/files/m.bin", Answer(200, content, cut_at=150_000), rest)
    seen: list[int] = []

    path = client.models.download("ridge", 1, tmp_path / "to", progress=lambda _, done, __: seen.append(done))

    assert path.read_bytes() == content
    assert seen[-1] == len(content)


def test_a_server_that_always_cuts_is_given_up(wire, client, tmp_path):
    hold(wire, {"m.bin": b"0123456789"})
    wire.on(f"GET {VERSIONS}/1/files/m.bin", Answer(200, b"0123456789", cut_at=0))
    client.transport.retry_for_s = 0.3

    with pytest.raises(Unreachable):
        client.models.download("ridge", 1, tmp_path / "to")
    assert list((tmp_path / "to").iterdir()) == []


@pytest.mark.parametrize("path", ["../evil", "/etc/evil", "a/../../evil", "a\\..\\evil", "a//b", "a\u202eb", "."])
def test_a_hostile_server_cannot_write_outside(wire, client, tmp_path, path):
    hold(wire, {}, listed=[entry(path, b"x")])

    with pytest.raises(DamagedDownload, match="not safe"):
        client.models.download("ridge", 1, tmp_path / "to")
    assert not wire.of("GET", f"{VERSIONS}/1/files")
    assert list(tmp_path.iterdir()) == []


def test_a_hostile_server_cannot_write_through_a_link(wire, client, tmp_path):
    hold(wire, {"mdl/x": b"x"})
    (tmp_path / "outside").mkdir()
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "mdl").symlink_to(tmp_path / "outside")

    with pytest.raises(DamagedDownload, match="leads outside"):
        client.models.download("ridge", 1, tmp_path / "to", exist_ok=True)
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_large_file_comes_in_ranges(wire, client, tmp_path, in_ranges):
    hold_large(wire)
    seen: list[int] = []

    path = client.models.download("ridge", 1, tmp_path / "to", progress=lambda _, done, __: seen.append(done))

    assert (path / "big.bin").read_bytes() == CONTENT
    assert (path / "small.txt").read_bytes() == b"small"
    assert asked_ranges(wire) == [0, 1, 2, 3, 4, 5]
    assert seen[-1] == len(CONTENT) + 5
    assert [one.name for one in (tmp_path / "to").iterdir()] == ["mdl"]


def test_a_range_that_was_cut_goes_on(wire, client, tmp_path, in_ranges):
    hold_large(wire)
    wire.on(f"GET {FILE}", ranged(CONTENT, cut_at=1000), ranged(CONTENT))

    path = client.models.download("ridge", 1, tmp_path / "to")

    assert (path / "big.bin").read_bytes() == CONTENT
    assert len(wire.of("GET", FILE)) == 7


def test_where_ranges_are_unknown_one_stream_brings_all(wire, client, tmp_path, in_ranges, monkeypatch):
    monkeypatch.setattr(downloads, "RANGE_BYTES", 4096)  # 81 of them
    hold_large(wire)
    wire.on(f"GET {FILE}", Answer(200, CONTENT))
    seen: list[int] = []

    path = client.models.download("ridge", 1, tmp_path / "to", progress=lambda _, done, __: seen.append(done))

    assert (path / "big.bin").read_bytes() == CONTENT
    assert len(wire.of("GET", FILE)) <= 5  # what four threads asked for before they knew, and the one stream
    assert seen[-1] == len(CONTENT) + 5


def test_a_proxy_that_forgets_ranges_halfway_is_put_up_with(wire, client, tmp_path, in_ranges):
    hold_large(wire)
    known, cut = ranged(CONTENT), ranged(CONTENT, cut_at=1000)
    wire.on(f"GET {FILE}", known, cut, known, Answer(200, CONTENT, cut_at=100_000), Answer(200, CONTENT))
    seen: list[int] = []

    path = client.models.download("ridge", 1, tmp_path / "to", progress=lambda _, done, __: seen.append(done))

    assert (path / "big.bin").read_bytes() == CONTENT
    assert seen[-1] == len(CONTENT) + 5


def test_a_range_that_never_ends_is_read_to_its_end(wire, client, tmp_path, in_ranges):
    hold_large(wire)
    wire.on(f"GET {FILE}", ranged(CONTENT, is_endless=True))
    client.transport.retry_for_s = 0

    assert (client.models.download("ridge", 1, tmp_path / "to") / "big.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("said", ["bytes 5-65540/328680", "bytes 0-9/328680", "nonsense", None])
def test_another_range_than_was_asked_for_is_refused(wire, client, tmp_path, in_ranges, said):
    hold_large(wire)
    wire.on(f"GET {FILE}", Answer(206, CONTENT[:RANGE], {"Content-Range": said} if said else {}))

    with pytest.raises(DamagedDownload, match="asked for bytes"):
        client.models.download("ridge", 1, tmp_path / "to")
    assert not (tmp_path / "to" / "mdl").exists()


def test_finished_large_files_are_looked_at_side_by_side(wire, client, tmp_path, in_ranges, monkeypatch):
    hold(wire, {}, listed=[entry(f"mdl/{number}", CONTENT) for number in range(3)])
    for number in range(3):
        wire.on(f"GET {VERSIONS}/1/files/mdl/{number}", ranged(CONTENT))
    wire.on(f"GET {VERSIONS}/1/files/mdl/2", ranged(bytes(len(CONTENT))))
    with pytest.raises(DamagedDownload):
        client.models.download("ridge", 1, tmp_path / "to")
    both, digest, looked_at = threading.Barrier(2), downloads.digest, []

    def together(*arguments: Any) -> Any:
        looked_at.append(arguments)
        both.wait(10)
        return digest(*arguments)

    monkeypatch.setattr(downloads, "digest", together)
    wire.on(f"GET {VERSIONS}/1/files/mdl/2", ranged(CONTENT))

    assert (client.models.download("ridge", 1, tmp_path / "to") / "2").read_bytes() == CONTENT
    assert len(looked_at) == 2


@pytest.mark.parametrize("sent", [CONTENT[:-1] + b"X", CONTENT[:-1], b""], ids=["other", "short", "empty"])
def test_wrong_ranges_never_show(wire, client, tmp_path, in_ranges, sent):
    hold_large(wire, sent)

    with pytest.raises(DamagedDownload):
        client.models.download("ridge", 1, tmp_path / "to")
    assert not (tmp_path / "to" / "mdl").exists()


def test_ranges_of_another_content_are_not_kept(wire, client, tmp_path, in_ranges):
    hold_large(wire, bytes(len(CONTENT)))

    with pytest.raises(DamagedDownload):
        client.models.download("ridge", 1, tmp_path / "to")
    assert not list(tmp_path.rglob("*.ranges"))


def test_nothing_shows_before_all_is_there_and_the_next_attempt_goes_on(wire, client, tmp_path, in_ranges):
    hold_large(wire)
    break_off_after(wire, 3)
    client.transport.retry_for_s = 0.3
    with pytest.raises(Unreachable):
        client.models.download("ridge", 1, tmp_path / "to")
    assert not (tmp_path / "to" / "mdl").exists()
    wire.asked.clear()
    wire.on(f"GET {FILE}", ranged(CONTENT))

    path = client.models.download("ridge", 1, tmp_path / "to")

    assert (path / "big.bin").read_bytes() == CONTENT
    assert len(asked_ranges(wire)) == 3
    assert not wire.of("GET", f"{VERSIONS}/1/files/mdl/small.txt")
    assert [one.name for one in (tmp_path / "to").iterdir()] == ["mdl"]


def test_a_killed_process_is_gone_on_with(wire, client, tmp_path, in_ranges):
    hold_large(wire)
    script = f"""
import os, signal
from keelway import Client, downloads
downloads.RANGE_BYTES = {RANGE}
def die_halfway(phase, done, total):
    if done > 4 * {RANGE}:
        os.kill(os.getpid(), signal.SIGKILL)
Client({wire.url!r}, "kw_secret").models.download("ridge", 1, {str(tmp_path / "to")!r}, progress=die_halfway)
"""
    killed = subprocess.run([sys.executable, "-c", script], timeout=30)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "to" / "mdl").exists()
    wire.asked.clear()

    path = client.models.download("ridge", 1, tmp_path / "to")

    assert (path / "big.bin").read_bytes() == CONTENT
    assert 0 < len(asked_ranges(wire)) < 6
    assert [one.name for one in (tmp_path / "to").iterdir()] == ["mdl"]


def test_what_rotted_meanwhile_is_fetched_anew(wire, client, tmp_path, in_ranges):
    hold_large(wire)
    break_off_after(wire, 3)
    client.transport.retry_for_s = 0.3
    with pytest.raises(Unreachable):
        client.models.download("ridge", 1, tmp_path / "to")
    (left,) = tmp_path.rglob("*.ranges")
    damaged = bytearray(left.read_bytes())
    damaged[: len(CONTENT)] = bytes(len(CONTENT))
    left.write_bytes(damaged)
    (small,) = tmp_path.rglob("small.txt")
    small.write_bytes(b"SMALL")
    wire.on(f"GET {FILE}", ranged(CONTENT))
    seen: list[int] = []

    path = client.models.download("ridge", 1, tmp_path / "to", progress=lambda _, done, __: seen.append(done))

    assert (path / "big.bin").read_bytes() == CONTENT
    assert (path / "small.txt").read_bytes() == b"small"
    assert seen[-1] == len(CONTENT) + 5


def test_two_at_once_do_not_meet(wire, client, tmp_path, in_ranges):
    hold_large(wire)
    begun, go_on = threading.Event(), threading.Event()
    whole = ranged(CONTENT)

    def wait(asked: Asked) -> Answer:
        begun.set()
        go_on.wait(10)
        return whole(asked)

    wire.on(f"GET {FILE}", wait, whole)
    first = threading.Thread(
        target=client.models.download, args=("ridge", 1, tmp_path / "to"), kwargs={"exist_ok": True}
    )
    first.start()
    assert begun.wait(10)

    path = client.models.download("ridge", 1, tmp_path / "to", exist_ok=True)
    assert (path / "big.bin").read_bytes() == CONTENT
    go_on.set()
    first.join()

    assert (path / "big.bin").read_bytes() == CONTENT
    assert [one.name for one in (tmp_path / "to").iterdir()] == ["mdl"]


def test_a_download_over_another_leaves_what_is_not_its_own(wire, client, tmp_path):
    hold(wire, {"mdl/a.txt": b"new", "mdl/sub/b.txt": b"beta"})
    (tmp_path / "mdl").mkdir()
    (tmp_path / "mdl" / "a.txt").write_bytes(b"old")
    (tmp_path / "mdl" / "mine.txt").write_bytes(b"mine")

    path = client.models.download("ridge", 1, tmp_path, exist_ok=True)

    found = {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*.txt")}
    assert found == {"a.txt": b"new", "sub/b.txt": b"beta", "mine.txt": b"mine"}


def test_no_link_in_the_staging_folder_is_followed(wire, client, tmp_path):
    hold(wire, {"m.bin": b"x"})
    outside = tmp_path / "outside"
    outside.mkdir()
    target = tmp_path / "to"
    client.models.download("ridge", 1, target)
    (target / "m.bin").unlink()
    names: list[str] = []
    client.models.download("ridge", 1, target, progress=lambda *_: names.extend(one.name for one in target.iterdir()))
    (target / "m.bin").unlink()
    (target / next(name for name in names if name.startswith(".keelway"))).symlink_to(outside)

    assert client.models.download("ridge", 1, target).read_bytes() == b"x"
    assert list(outside.iterdir()) == []


def test_one_file_of_a_version_goes_by_its_own_name(wire, client, tmp_path):
    hold(wire, {"mdl/a.txt": b"alpha", "mdl/sub/b.txt": b"beta"})

    path = client.models.download("ridge", 1, tmp_path / "to", file="mdl/sub/b.txt")

    assert path == tmp_path / "to" / "b.txt"
    assert path.read_bytes() == b"beta"
    assert [one.name for one in (tmp_path / "to").iterdir()] == ["b.txt"]
    with pytest.raises(InvalidInput, match=r"has no file 'b\.txt'"):
        client.models.download("ridge", 1, tmp_path / "to", file="b.txt")


FILES = {"mdl/a.txt": b"alpha", "mdl/" + "deep/" * 40 + "b.bin": os.urandom(3000)}


def tar_of(files: dict[str, bytes]) -> bytes:
    """A tar as the server makes it."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


def test_an_archive_is_verified_before_it_shows(wire, client, tmp_path):
    hold(wire, FILES)
    whole = tar_of(FILES)
    wire.on(f"GET {VERSIONS}/1/archive", Answer(200, whole, cut_at=2000), Answer(200, whole))
    seen: list[int] = []

    path = client.models.download_archive(
        "ridge", "latest", tmp_path / "to" / "r.tar", progress=lambda _, done, __: seen.append(done)
    )

    assert path.read_bytes() == whole
    assert seen[-1] == sum(map(len, FILES.values()))
    with pytest.raises(InvalidInput, match="exists already"):
        client.models.download_archive("ridge", "latest", path)
    client.models.download_archive("ridge", "latest", path, exist_ok=True)


@pytest.mark.parametrize(
    "sent",
    [
        tar_of({**FILES, "mdl/a.txt": b"alphX"}),
        tar_of({"mdl/a.txt": b"alpha"}),
        tar_of({**FILES, "mdl/more": b"x"}),
        tar_of({"../evil": b"x"}),
        tar_of({**FILES, "mdl/a.txt": b"longer"}),
        tar_of(FILES)[:600],
        b"no archive" * 100,
        b"",
        bytes(10**6),
    ],
    ids=["other", "fewer", "more", "outside", "longer", "cut", "none", "empty", "endless"],
)
def test_another_archive_is_never_kept(wire, client, tmp_path, sent):
    hold(wire, FILES)
    wire.on(f"GET {VERSIONS}/1/archive", Answer(200, sent))

    with pytest.raises(DamagedDownload):
        client.models.download_archive("ridge", 1, tmp_path / "to" / "r.tar")
    assert list((tmp_path / "to").iterdir()) == []
