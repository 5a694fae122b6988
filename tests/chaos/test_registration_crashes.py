"""The API, and the client, are killed at the steps of a registration; whoever goes on ends with one whole version.

The steps that must be survived have names; one more place on each wire is another in each run. Its seed is printed
with a failure, and KEELWAY_CRASH_SEED repeats it.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from keelway import Client
from keelway_api.blobs.objects import StoredBlob
from keelway_standalone.s3 import BUCKET
from tests.support.api import Api
from tests.support.command_line import KEELWAY
from tests.support.tripwire import NOWHERE, Place, Tripwire

LARGE_BYTES = 17 * 2**20  # three parts
PART_BYTES = 8 * 2**20
RETRY_S = 60

# What the API says to its database, and to its store. Each place costs a start of the API.
OPEN = (rb"model\.version\.open",)
PART_IS_NOTED = (rb"UPDATE blob_uploads SET part_epochs", rb"COMMIT")
LARGE_IS_KEPT = (rb"INSERT INTO blobs .*\{1,1,1\}", rb"COMMIT")
SEAL = (rb"UPDATE manifests SET is_sealed", rb"COMMIT")
DATABASE_PLACES = [
    Place("open, answer lost", marks=OPEN, is_passed_first=True),
    Place("a part is stored, not noted", marks=PART_IS_NOTED),
    Place("the large file is kept, answer lost", marks=LARGE_IS_KEPT, is_passed_first=True),
    Place("before the seal", marks=SEAL),
    Place("sealed, answer lost", marks=SEAL, is_passed_first=True),
]
STORE_PLACES = [
    Place("before a part is stored", marks=(rb"PUT /\S*\.000001\.1\?",)),
    Place("when all that is stored is looked at", marks=(rb"HEAD /",), is_passed_first=True),
]
# What the client says to the API.
COMMIT = (rb"POST /\S*/commit ",)
CLIENT_PLACES = {  # and how much the repeated command may send at most
    Place("open, answer lost", marks=(rb"POST /\S*/versions ",), is_passed_first=True): LARGE_BYTES + 2**20,
    Place("three quarters are sent", sent_bytes=LARGE_BYTES * 3 // 4): LARGE_BYTES - PART_BYTES + 2**20,
    Place("before the commit", marks=COMMIT): 2**20,
    Place("committed, answer lost", marks=COMMIT, is_passed_first=True): 2**20,
}
SEED = os.environ.get("KEELWAY_CRASH_SEED") or str(time.time_ns())


class Wired:
    """An API whose connections to its database and its store, and that of its client, have tripwires."""

    def __init__(self, api: Api, folder: Path) -> None:
        self.api = api
        postgres, store = api.stack.postgres.url, api.env()["KEELWAY_S3_ENDPOINT"]
        sockets = postgres.split("host=")[1].replace("%2F", "/")
        (name,) = (path.name for path in Path(sockets).glob(".s.PGSQL.*") if not path.name.endswith(".lock"))
        host, port = store.rsplit(":", 1)
        self.database = Tripwire(folder / name, Path(sockets) / name)
        self.store = Tripwire(("127.0.0.1", 0), (host, int(port)))
        url_file = folder / "url"
        url_file.write_text(postgres.split("host=")[0] + f"host={folder}")
        api.stop_api()
        api.change(KEELWAY_DATABASE_URL_FILE=str(url_file), KEELWAY_S3_ENDPOINT=f"127.0.0.1:{self.store.port}")
        api.start_api()
        self.client = Tripwire(("127.0.0.1", 0), ("127.0.0.1", api.port))

    def close(self) -> None:
        for wire in (self.database, self.store, self.client):
            wire.close()


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wired]:
    """An API of its own: it is killed all the time, and its clock is slow so that it does little by itself."""
    api = Api(tmp_path_factory.mktemp("crashes"), KEELWAY_CLOCK_S="30")
    api.start()
    wired = Wired(api, tmp_path_factory.mktemp("w"))
    yield wired
    wired.close()
    api.stop()


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three files, of which one is sent in parts; no test has the same bytes."""
    made = tmp_path / "mdl"
    (made / "sub").mkdir(parents=True)
    (made / "a.txt").write_bytes(str(tmp_path).encode())
    (made / "sub" / "b.txt").write_bytes(b"b" + str(tmp_path).encode())
    (made / "large.bin").write_bytes((str(tmp_path).encode() * LARGE_BYTES)[:LARGE_BYTES])
    return made


def fresh(folder: Path, number: int) -> Path:
    """Bytes that the server does not know from the attempt before."""
    for file in folder.rglob("*.*"):
        with file.open("r+b") as stream:
            stream.write(b"%04d" % number)
    return folder


def assert_whole(api: Api, name: str, folder: Path, tmp_path: Path, *, versions: list[int] | None = None) -> None:
    """What is ready has all its bytes, and the newest is what was registered."""
    with Client(api.url, api.token("admin")) as client:
        found = list(client.models.versions(name))
        ready = [version.version for version in found if version.state == "ready"]
        assert ready, [version.state for version in found]
        assert versions is None or ready == versions
        for version in ready:
            assert client.models.verify(f"{name}:{version}").damaged == []
        got = client.models.download(name, ready[0], tmp_path / f"got-{name}")
    for file in folder.rglob("*.*"):
        assert (got / file.relative_to(folder)).read_bytes() == file.read_bytes()


def register_past(wired: Wired, wire: Tripwire, name: str, folder: Path, place: Place) -> None:
    """Register while the API is killed at a place on a wire, and started again."""
    killed = threading.Event()

    def kill() -> None:
        wired.api.kill_api()
        killed.set()

    client = Client(wired.api.url, wired.api.token("admin"), retry_for_s=RETRY_S)
    with client, ThreadPoolExecutor(1) as pool:
        wire.arm(place, kill)
        registered = pool.submit(client.models.register, name, folder)
        while not killed.wait(0.05) and not registered.done():
            pass
        if wire.is_tripped:
            assert killed.wait(RETRY_S)
            wired.api.start_api()
        registered.result()
        wire.disarm()


def crash_everywhere(
    wired: Wired, wire: Tripwire, kind: str, folder: Path, tmp_path: Path, places: list[Place]
) -> None:
    """At each of the places, and at one more: one version, and it is whole."""
    register_past(wired, wire, f"{kind}-0", folder, NOWHERE)
    chance = random.Random(f"{SEED} {kind}")
    somewhere = Place("somewhere", number=chance.randint(1, wire.seen), is_passed_first=chance.random() < 0.5)
    print(f"KEELWAY_CRASH_SEED={SEED}: {somewhere}")
    for number, place in enumerate([*places, somewhere], start=1):
        name = f"{kind}-{number}"
        register_past(wired, wire, name, fresh(folder, number), place)
        # How many messages there are is not the same each time.
        assert wire.is_tripped or place is somewhere, place
        assert_whole(wired.api, name, folder, tmp_path, versions=[1])


def test_the_api_is_killed_at_its_messages_to_the_database(wired, folder, tmp_path):
    crash_everywhere(wired, wired.database, "database", folder, tmp_path, DATABASE_PLACES)


def test_the_api_is_killed_at_its_messages_to_the_store(wired, folder, tmp_path):
    crash_everywhere(wired, wired.store, "store", folder, tmp_path, STORE_PLACES)


def wait_for_a_part(api: Api) -> None:
    """Until a part of the large file is stored and noted: what is on its way still may be lost with its sender."""
    until = time.monotonic() + RETRY_S
    while not api.sql("SELECT id FROM blob_uploads WHERE cardinality(part_epochs) > 0"):
        assert time.monotonic() < until
        time.sleep(0.02)


def test_the_client_is_killed_at_its_messages_and_the_command_repeated(wired, folder, tmp_path):
    env = {"KEELWAY_URL": f"http://127.0.0.1:{wired.client.port}", "KEELWAY_TOKEN": wired.api.token("admin")}

    def register(name: str, place: Place) -> int:
        arguments = [KEELWAY, "model", "register", "-n", name, "-p", folder]
        process = subprocess.Popen(arguments, env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

        def kill() -> None:
            if place.sent_bytes:
                wait_for_a_part(wired.api)
            process.kill()

        wired.client.arm(place, kill)
        _, said = process.communicate(timeout=RETRY_S)
        wired.client.disarm()
        assert process.returncode in {0, -signal.SIGKILL}, said
        return process.returncode

    for number, (place, most_bytes) in enumerate(CLIENT_PLACES.items(), start=1):
        fresh(folder, number)
        assert register(f"client-{number}", place) == -signal.SIGKILL, place
        assert register(f"client-{number}", NOWHERE) == 0
        assert wired.client.sent_bytes < most_bytes, place
        # The killed one may have been committed: then there are two, both of them whole.
        assert_whole(wired.api, f"client-{number}", folder, tmp_path)


def test_nothing_is_left_but_what_was_registered(wired):
    """After all these deaths all that is stored is right, and gc leaves no object without an owner."""
    api = wired.api
    api.stop_api()
    api.change(KEELWAY_UPLOAD_KEEP_S="0.01")
    api.start_api()
    with Client(api.url, api.token("admin")) as client:
        reports = list(client.upkeep.gc(grace_s=0))
        assert [damaged for report in client.upkeep.scrub() for damaged in report.damaged] == []
    assert reports[-1].is_complete

    rows = api.sql("SELECT sha256, size_bytes, upload_id, part_bytes, part_epochs FROM blobs")
    owned = {key for row in rows for key in StoredBlob(**row).keys}
    stored = api.stack.s3.client().list_objects(BUCKET, prefix="blobs/", recursive=True)
    assert {item.object_name for item in stored} == owned
    assert api.sql("SELECT count(*) FROM model_versions WHERE state = 'uploading'") == [{"count": 0}]
