"""Collected data: sent by nodes, perhaps twice, kept by the name of the service, listed, fetched and deleted."""

import io
from concurrent.futures import ThreadPoolExecutor

import pytest

from keelway_standalone.s3 import BUCKET
from tests.support.api import wait_until
from tests.support.attempt import Attempt, observe
from tests.support.problems import assert_problem
from tests.support.registry import node, service, sha256

ROWS = b'$requestId,a\r\nr1,"1\n2"\r\n'
MIB = 2**20


@pytest.fixture
def placed(api, workspace):
    """A node and the name of a replica on it."""
    host = node(api)
    made = service(api, workspace, deployment_config={"collect_model_data": True})
    return host, Attempt(api, made["operation"], node=host).place().json()["items"][0]["name"]


def name_of(day="20300102", designation="inputs", number=0):
    return f"{designation}-{day}T235959Z-{number:08x}.csv"


def put(http, placed, content=ROWS, *, model="ridge", version="3", designation="inputs", file=None, **params):
    host, replica = placed
    file = file or name_of(designation=designation)
    url = f"/v1/nodes/{host}/replicas/{replica}/collected/{model}/{version}/{designation}/{file}"
    return http.put(url, content=content, params={"sha256": sha256(content), **params})


def listed(api, w, **params):
    response = api.admin.get(f"{w}/services/ridge-svc/collected", params=params)
    assert response.status_code == 200, response.text
    return response.json()["items"]


def test_a_file_is_kept_under_its_service_and_the_day_of_its_first_row(api, workspace, w, placed):
    assert put(api.worker, placed).status_code == 204

    [file] = listed(api, w)
    assert file["path"] == f"ridge/3/inputs/2030/01/02/{name_of()}"
    assert (file["day"], file["designation"]) == ("2030-01-02", "inputs")
    assert (file["size_bytes"], file["sha256"]) == (len(ROWS), sha256(ROWS))
    response = api.admin.get(f"{w}/services/ridge-svc/collected/{file['path']}")
    assert (response.content, response.headers["etag"]) == (ROWS, f'"{sha256(ROWS)}"')
    key = f"modeldata/{workspace}/ridge-svc/{file['path']}"
    assert api.stack.s3.client().get_object(BUCKET, key).read() == ROWS


def test_a_part_of_a_file_is_fetched_by_range(api, w, placed):
    put(api.worker, placed)
    url = f"{w}/services/ridge-svc/collected/{listed(api, w)[0]['path']}"

    response = api.admin.get(url, headers={"Range": "bytes=1-9"})

    assert (response.status_code, response.content) == (206, ROWS[1:10])


def test_a_file_that_is_sent_again_is_taken_and_replaces_nothing(api, w, placed):
    put(api.worker, placed)

    assert put(api.worker, placed).status_code == 204
    assert put(api.worker, placed, b"other bytes").status_code == 204

    [file] = listed(api, w)
    assert api.admin.get(f"{w}/services/ridge-svc/collected/{file['path']}").content == ROWS


def test_one_file_sent_by_many_at_once_is_one_file(api, w, placed):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: put(api.worker, placed).status_code, range(8)))

    assert set(answers) == {204}
    assert len(listed(api, w)) == 1


def test_bytes_that_are_not_what_was_announced_are_refused(api, w, placed):
    response = put(api.worker, placed, ROWS, sha256="0" * 64)

    assert assert_problem(response, "digest-mismatch")["actual"] == sha256(ROWS)
    assert listed(api, w) == []


def test_a_file_that_is_too_large_is_refused_and_one_that_just_fits_is_not(api, w, placed):
    assert_problem(put(api.worker, placed, b"x" * (16 * MIB + 1)), "too-large")
    assert listed(api, w) == []

    assert put(api.worker, placed, b"x" * 16 * MIB).status_code == 204
    assert listed(api, w)[0]["size_bytes"] == 16 * MIB


def test_a_length_that_is_not_told_is_counted(api, w, placed):
    def endless():
        for _ in range(17):
            yield b"x" * MIB

    host, replica = placed
    url = f"/v1/nodes/{host}/replicas/{replica}/collected/ridge/3/inputs/{name_of()}"
    assert_problem(api.worker.put(url, content=endless(), params={"sha256": "0" * 64}), "too-large")
    assert listed(api, w) == []


@pytest.mark.parametrize("stranger", ["another node", "another replica"])
def test_a_replica_that_is_not_of_this_node_is_not_found(api, w, placed, stranger):
    host, replica = placed
    whose = (node(api), replica) if stranger == "another node" else (host, "ridge-svc-r1-0-000000")

    assert_problem(put(api.worker, whose), "not-found")
    assert listed(api, w) == []


@pytest.mark.parametrize(
    "place",
    [
        {"model": ".hidden"},
        {"model": "a b"},
        {"model": "x" * 256},
        {"version": "%2e%2e"},
        {"version": "x" * 65},
        {"designation": "in%0Aputs"},
        {"designation": "-inputs", "file": name_of()},
        {"designation": "%2e%2e", "file": name_of()},
        {"file": "inputs.csv"},
        {"file": name_of() + ".part"},
        {"file": name_of("20301302")},
        {"file": name_of("20300230")},
        {"file": name_of().replace("T235959", "T256060")},
        {"file": name_of().replace("2030", "２０３０")},
    ],
)
def test_a_part_of_a_path_that_is_none_is_refused(api, w, placed, place):
    assert_problem(put(api.worker, placed, **place), "invalid-request")
    assert listed(api, w) == []


@pytest.mark.parametrize("place", [{"model": "a%2Fb"}, {"model": ".."}, {"version": "1/2"}, {"file": "%2e%2e%2fx.csv"}])
def test_a_path_that_leads_elsewhere_is_not_found(api, w, placed, place):
    assert put(api.worker, placed, **place).status_code in {404, 405}
    assert listed(api, w) == []


def test_files_come_in_pages_and_by_day_and_designation(api, w, placed):
    for day in ("20300101", "20300102"):
        for designation in ("inputs", "predictions"):
            for number in range(2):
                file = name_of(day, designation, number)
                assert put(api.worker, placed, designation=designation, file=file).status_code == 204

    first = api.admin.get(f"{w}/services/ridge-svc/collected", params={"limit": 5}).json()
    rest = listed(api, w, limit=5, page_token=first["next_page_token"])
    paths = [file["path"] for file in first["items"] + rest]
    assert paths == sorted(paths)
    assert len(set(paths)) == 8
    assert len(listed(api, w, day="2030-01-02")) == 4
    found = listed(api, w, day="2030-01-02", designation="inputs")
    assert [file["path"].rsplit("/", 1)[1] for file in found] == [name_of(number=0), name_of(number=1)]
    assert listed(api, w, day="2031-01-01") == []


@pytest.mark.parametrize("params", [{"day": "yesterday"}, {"designation": "../x"}, {"dya": "2030-01-01"}])
def test_a_filter_that_is_none_is_refused(api, w, placed, params):
    assert_problem(api.admin.get(f"{w}/services/ridge-svc/collected", params=params), "invalid-request")


def test_a_service_that_collected_nothing_has_none_and_one_that_is_not_there_is_not_found(api, w, placed):
    assert listed(api, w) == []
    for url in (f"{w}/services/no-such-svc/collected", f"{w}/services/ridge-svc/collected/ridge/3/inputs/x.csv"):
        assert_problem(api.admin.get(url), "not-found")
    assert_problem(api.admin.delete(f"{w}/services/no-such-svc/collected"), "not-found")


def test_data_outlive_their_service_and_are_there_for_the_next_of_its_name(api, workspace, w, placed):
    put(api.worker, placed)
    host, _ = placed
    deletion = api.admin.delete(f"{w}/services/ridge-svc").json()
    observe(api, host)
    Attempt(api, deletion["id"], node=host).end()
    wait_until(lambda: api.admin.get(f"{w}/services/ridge-svc").status_code == 404, "the service is gone")

    [file] = listed(api, w)
    assert api.admin.get(f"{w}/services/ridge-svc/collected/{file['path']}").content == ROWS
    assert_problem(put(api.worker, placed, file=name_of(number=1)), "not-found")
    service(api, workspace)
    assert listed(api, w) == [file]
    other = f"/v1/workspaces/{api.workspace()}"
    assert_problem(api.admin.get(f"{other}/services/ridge-svc/collected"), "not-found")


def test_data_are_deleted_up_to_a_day_or_all(api, workspace, w, placed):
    for day in ("20300101", "20300102", "20300103"):
        put(api.worker, placed, file=name_of(day))
    url = f"{w}/services/ridge-svc/collected"

    done = api.admin.delete(url, params={"until": "2030-01-02"}).json()

    assert done == {"deleted_files": 2, "deleted_bytes": 2 * len(ROWS), "is_complete": True}
    assert [file["day"] for file in listed(api, w)] == ["2030-01-03"]
    assert api.admin.delete(url).json()["deleted_files"] == 1
    assert listed(api, w) == []
    assert api.admin.delete(url).json()["deleted_files"] == 0
    assert list(api.stack.s3.client().list_objects(BUCKET, prefix=f"modeldata/{workspace}/", recursive=True)) == []
    entries = api.admin.get(f"{w}/audit").json()["items"]
    found = [entry["detail"] for entry in entries if entry["action"] == "service.collected.delete"]
    assert found == [{"files": 1, "until": None}, {"files": 2, "until": "2030-01-02"}]


def test_bytes_that_changed_in_the_store_are_never_given_out_as_right(api, workspace, w, placed):
    put(api.worker, placed)
    [file] = listed(api, w)
    key = f"modeldata/{workspace}/ridge-svc/{file['path']}"
    api.stack.s3.client().put_object(BUCKET, key, io.BytesIO(ROWS.upper()), len(ROWS))

    with pytest.raises(Exception, match=r"peer closed|incomplete"):
        api.admin.get(f"{w}/services/ridge-svc/collected/{file['path']}")


def test_nothing_is_listed_whose_bytes_the_store_did_not_take(api, w, placed):
    s3 = api.stack.pid_of("s3")
    api.stack.kill("s3")
    try:
        response = put(api.worker, placed)
        assert response.status_code in {204, 503}
        assert len(listed(api, w)) == (response.status_code == 204)
    finally:
        api.stack.wait_restarted("s3", s3)

    wait_until(lambda: put(api.worker, placed).status_code == 204, "the store takes it again", 30)
    assert len(listed(api, w)) == 1


def test_a_replica_is_told_whether_it_collects(api, workspace, placed):
    host, replica = placed
    [spec] = api.worker.get(f"/v1/nodes/{host}/desired").json()["replicas"]

    assert (spec["name"], spec["collects_data"]) == (replica, True)
    other = service(api, workspace, name="other-svc")
    assert other["deployment_config"]["collect_model_data"] is False
