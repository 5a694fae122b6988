"""Collected data in the SDK: listed, fetched to their paths, deleted; and sent by nodes."""

from __future__ import annotations

from datetime import date

import pytest

from keelway.errors import DamagedDownload, InvalidRequest
from tests.unit.sdk.samples import NOW, sha256
from tests.unit.sdk.wire import Answer, problem

COLLECTED = "/v1/workspaces/default/services/ridge-svc/collected"
PATH = "ridge/3/inputs/2030/01/02/inputs-20300102T030405Z-00000000.csv"
ROWS = b"$requestId,a\r\nr1,1\r\n"


def file(path: str = PATH, content: bytes = ROWS) -> dict:
    about = {"designation": "inputs", "day": "2030-01-02", "created_at": NOW.isoformat()}
    return {"path": path, "size_bytes": len(content), "sha256": sha256(content), **about}


def hold(wire, *files: dict, content: bytes = ROWS) -> None:
    wire.on(f"GET {COLLECTED}", Answer(body={"items": list(files)}))
    for one in files:
        wire.on(f"GET {COLLECTED}/{one['path']}", Answer(200, content))


def test_files_are_listed_page_after_page_by_day_and_designation(wire, client):
    other = PATH.replace("00000000", "00000001")
    first = Answer(body={"items": [file()], "next_page_token": "more"})
    wire.on(f"GET {COLLECTED}", first, Answer(body={"items": [file(other)]}))

    found = list(client.services.collected("ridge-svc", day=date(2030, 1, 2), designation="inputs"))

    assert [one.path for one in found] == [PATH, other]
    assert found[0].day == date(2030, 1, 2)
    assert wire.asked[0].query == "day=2030-01-02&designation=inputs"


def test_files_are_put_at_their_paths_and_not_fetched_again(wire, client, tmp_path):
    hold(wire, file())

    for _ in range(2):
        assert client.services.download_collected("ridge-svc", tmp_path / "data") == [tmp_path / "data" / PATH]

    assert (tmp_path / "data" / PATH).read_bytes() == ROWS
    assert len(wire.of("GET", f"{COLLECTED}/")) == 1
    assert [entry.name for entry in (tmp_path / "data").iterdir()] == ["ridge"], "nothing else is left there"


def test_wrong_bytes_are_not_kept(wire, client, tmp_path):
    hold(wire, file(), content=b"other rows")

    with pytest.raises(DamagedDownload):
        client.services.download_collected("ridge-svc", tmp_path)

    assert not (tmp_path / PATH).exists()


@pytest.mark.parametrize("path", ["../x.csv", "/etc/x.csv", "a/../../x.csv", "link/x.csv", "a\0.csv"])
def test_a_server_cannot_write_elsewhere(wire, client, tmp_path, path):
    target = tmp_path / "target"
    target.mkdir()
    (target / "link").symlink_to(tmp_path)
    hold(wire, file(path))

    with pytest.raises(DamagedDownload):
        client.services.download_collected("ridge-svc", target)

    assert sorted(entry.name for entry in tmp_path.rglob("*.csv")) == []


def test_deleting_goes_on_until_it_is_complete(wire, client):
    part = {"deleted_files": 1000, "deleted_bytes": 5, "is_complete": False}
    wire.on(f"DELETE {COLLECTED}", Answer(200, part), Answer(200, part | {"deleted_files": 1, "is_complete": True}))

    done = client.services.delete_collected("ridge-svc", until=date(2030, 1, 2))

    assert (done.deleted_files, done.deleted_bytes, done.is_complete) == (1001, 10, True)
    assert {asked.query for asked in wire.asked} == {"until=2030-01-02"}


def test_a_node_sends_a_file_with_its_digest(wire, client):
    name = PATH.rsplit("/", 1)[1]
    url = f"/v1/nodes/here/replicas/ridge-r1-0/collected/ridge/3/inputs/{name}"
    wire.on(f"PUT {url}", Answer(204), problem(422, "invalid-request"))

    client.nodes.send_collected("here", "ridge-r1-0", ("ridge", "3", "inputs", name), ROWS)

    assert (wire.asked[0].body, wire.asked[0].query) == (ROWS, f"sha256={sha256(ROWS)}")
    with pytest.raises(InvalidRequest):
        client.nodes.send_collected("here", "ridge-r1-0", ("ridge", "3", "inputs", name), ROWS)
