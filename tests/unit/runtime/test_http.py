"""What callers see, over real sockets."""

import http.client
import json
import socket

import pytest

HEADERS = {
    "x-ms-run-function-failed",
    "x-ms-run-fn-exec-ms",
    "x-request-id",
    "x-ms-request-id",
    "x-ms-client-request-id",
}


def test_an_undecorated_script_gets_the_body_as_text(echo):
    assert echo.score('{"zürich": 1}'.encode()).json()["raw"] == '{"zürich": 1}'


def test_a_form_is_not_emptied(echo):
    answer = echo.score(b"a=1&b=2", {"content-type": "application/x-www-form-urlencoded"})

    assert answer.json()["raw"] == "a=1&b=2"


def test_a_get_gives_the_query_parameters_as_json(echo):
    answer = echo.get("/score?n=1&name=ann&tag=a&tag=2&empty=&list=%5B1%5D")

    assert json.loads(answer.json()["raw"]) == {"n": 1, "name": "ann", "tag": ["a", 2], "empty": "", "list": [1]}


def test_request_headers_are_found_in_any_case(echo):
    answer = echo.score(b"x", {"user-agent": "tester", "Content-Type": "text/csv"})

    assert (answer.json()["agent"], answer.json()["type"]) == ("tester", "text/csv")


def test_a_body_that_is_not_utf8_is_400(echo):
    answer = echo.score(b"\xff\xfe")

    assert answer.status == 400
    assert answer.json() == {"status_code": 400, "message": "The body is not UTF-8: invalid start byte at byte 0"}


@pytest.mark.parametrize(
    ("told", "logged"), [("raise", "in run"), ("quit", "SystemExit: 1"), ("unencodable", "object has no JSON form")]
)
def test_a_failing_run_is_500_and_tells_only_the_log(echo, told, logged):
    answer = echo.score(told.encode(), {"x-request-id": f"failing-{told}"})

    assert answer.status == 500
    assert answer.json()["status_code"] == 500
    assert answer.headers["x-ms-run-function-failed"] == "True"
    assert b"secret" not in answer.body
    assert b"Traceback" not in answer.body
    assert logged in echo.event_of(f"failing-{told}", "run failed")["traceback"]
    assert echo.score(b"still here").status == 200


def test_every_answer_carries_the_headers(echo):
    answers = [echo.score(b"x"), echo.score(b"raise"), echo.get("/"), echo.get("/livez"), echo.get("/nowhere")]

    assert [answer.status for answer in answers] == [200, 500, 200, 200, 404]
    for answer in answers:
        assert set(answer.headers) >= HEADERS
    assert answers[0].headers["x-ms-run-function-failed"] == "False"


def test_the_time_in_run_is_told_in_ms(echo):
    assert 50 <= float(echo.score(b"sleep 0.05").headers["x-ms-run-fn-exec-ms"]) < 1000


def test_a_request_id_is_echoed(echo):
    answer = echo.score(b"x", {"x-request-id": "a" * 100})

    assert answer.headers["x-request-id"] == "a" * 100
    assert answer.headers["x-ms-request-id"] == "a" * 100


def test_a_client_request_id_is_echoed_under_both_its_names(echo):
    answer = echo.score(b"x", {"x-ms-client-request-id": "mine"})

    assert answer.headers["x-ms-client-request-id"] == "mine"
    assert answer.headers["x-ms-request-id"] == "mine"
    assert answer.headers["x-request-id"] != "mine"


def test_new_request_ids_differ(echo):
    assert echo.get("/").headers["x-request-id"] != echo.get("/").headers["x-request-id"]


@pytest.mark.parametrize("name", ["x-request-id", "x-ms-client-request-id"])
def test_an_id_of_more_than_100_characters_is_431(echo, name):
    answer = echo.score(b"x", {name: "a" * 101})

    assert answer.status == 431
    assert name in answer.json()["message"]
    assert "a" * 101 not in answer.headers.values()


def test_an_unknown_path_is_404_in_json(echo):
    answer = echo.request("POST", "/scores", b"x")

    assert (answer.status, answer.json()["status_code"]) == (404, 404)


@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "/score"), ("DELETE", "/score"), ("POST", "/"), ("POST", "/swagger.json")]
)
def test_another_method_is_405_and_told_which_are_allowed(echo, method, path):
    answer = echo.request(method, path, b"x")

    assert answer.status == 405
    assert answer.headers["allow"] == ("GET, POST, OPTIONS" if path == "/score" else "GET, HEAD, OPTIONS")


def test_options_is_always_answered(echo):
    answer = echo.request("OPTIONS", "/score")

    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["allow"] == "GET, POST, OPTIONS"


def test_a_head_request_of_a_probe_has_no_body(echo):
    answer = echo.request("HEAD", "/readyz")

    assert (answer.status, answer.body) == (200, b"")


def test_a_body_of_exactly_the_limit_is_taken(echo):
    assert echo.score(b"a" * 1_000_000).status == 200


def test_a_body_over_the_limit_is_413(echo):
    answer = echo.score(b"a" * 1_000_001)

    assert answer.status == 413
    assert "1000000 bytes" in answer.json()["message"]


def test_a_body_said_to_be_too_large_is_refused_before_it_is_sent(echo):
    with socket.create_connection(("127.0.0.1", echo.port), timeout=10) as connection:
        connection.sendall(b"POST /score HTTP/1.1\r\nhost: x\r\ncontent-length: 1000001\r\n\r\n")

        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_streamed_body_is_refused_as_soon_as_it_is_too_large(echo):
    with socket.create_connection(("127.0.0.1", echo.port), timeout=10) as connection:
        connection.sendall(b"POST /score HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(11):
            connection.sendall(b"186a0\r\n" + b"a" * 100_000 + b"\r\n")  # never ended

        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_connections_are_kept(echo):
    connection = http.client.HTTPConnection("127.0.0.1", echo.port, timeout=10)
    connection.request("POST", "/score", b"one")
    connection.getresponse().read()
    first_socket = connection.sock
    connection.request("POST", "/score", b"two")

    assert json.loads(connection.getresponse().read())["raw"] == "two"
    assert connection.sock is first_socket
    connection.close()


def test_metrics_count_requests_and_time(echo):
    def figures():
        lines = echo.get("/metrics").body.decode().splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}

    echo.score(b"x"), echo.score(b"raise")
    before = figures()
    echo.score(b"sleep 0.05"), echo.score(b"\xff")
    after = figures()

    assert after['keelway_requests_total{status="200"}'] == before['keelway_requests_total{status="200"}'] + 1
    assert after['keelway_requests_total{status="400"}'] >= 1
    assert after["keelway_run_seconds_count"] == before["keelway_run_seconds_count"] + 1
    assert after["keelway_run_seconds_sum"] >= before["keelway_run_seconds_sum"] + 0.05
    assert after["keelway_requests_in_flight"] == 0
