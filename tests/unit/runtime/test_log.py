import json
import os


def test_each_request_is_one_json_line_with_its_id(echo):
    echo.score(b"x", {"x-request-id": "logged-once"})

    event = echo.event_of("logged-once", "request")
    assert (event["method"], event["path"], event["status"]) == ("POST", "/score", 200)
    assert event["ms"] > 0


def test_print_goes_through_with_the_request_id(echo):
    echo.score(b"a thing to print", {"x-request-id": "printed"})

    event = echo.event_of("printed", "print")
    assert (event["stream"], event["message"]) == ("stdout", "scoring a thing to print")


def test_the_logging_module_goes_through_with_the_request_id(echo):
    echo.score(b"a thing to log", {"x-request-id": "from-user-code"})

    event = echo.event_of("from-user-code", "log")
    assert (event["level"], event["logger"], event["message"]) == ("WARNING", "mine", "looked at a thing to log")


def test_the_log_of_a_start_says_what_serves_where(echo):
    [listening], [ready] = echo.events("listening"), echo.events("ready")

    assert (listening["port"], listening["service"]) == (echo.port, "echo")
    assert ready["script"].endswith("score.py")


def test_probes_are_not_logged(echo):
    echo.get("/readyz", {"x-request-id": "a-probe"})

    assert not any("a-probe" in line for line in echo.lines)


def test_every_line_of_ours_has_a_time(echo):
    ours = [json.loads(line) for line in list(echo.lines) if line.startswith("{")]

    assert all("time" in event and "event" in event for event in ours)


def test_a_log_nobody_reads_fails_no_request(serve):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        server = serve("def init(): pass\ndef run(raw): print(raw); return raw", stdout=writer).wait_ready()
    finally:
        os.close(writer)

    assert [server.score(b"x").status for _ in range(3)] == [200, 200, 200]


def test_a_log_call_whose_format_does_not_fit_fails_no_request(serve):
    server = serve(
        "import logging\ndef init(): pass\ndef run(raw): logging.error('%d of %s', raw); return raw"
    ).wait_ready()

    assert server.score(b"x").status == 200


def test_an_error_with_text_that_is_not_unicode_is_logged(serve):
    server = serve("def init(): pass\ndef run(raw): raise OSError('\\udcff')").wait_ready()

    assert server.score(b"x", {"x-request-id": "odd"}).json()["status_code"] == 500
    assert "OSError" in server.event_of("odd", "run failed")["traceback"]
