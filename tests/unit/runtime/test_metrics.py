"""GET /metrics, as Prometheus reads it."""

import re

from keelway_runtime.metrics import Histogram

LINE = re.compile(r'(# (HELP|TYPE) \w+ .+)|(\w+(\{\w+="[^"]*"\})? [0-9.e+-]+)')


def sample(server, name):
    found = re.search(rf"^{re.escape(name)} (\S+)$", server.get("/metrics").body.decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_every_line_is_in_the_text_format(echo):
    echo.score(b"x")
    answer = echo.get("/metrics")

    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert [line for line in answer.body.decode().splitlines() if not LINE.fullmatch(line)] == []


def test_answers_are_counted_by_status(echo):
    names = [f'keelway_requests_total{{status="{status}"}}' for status in (200, 400, 500)]
    before = [sample(echo, name) for name in names]

    for body in (b"x", b"\xff", b"raise", b"y"):
        echo.score(body)

    assert [sample(echo, name) - was for name, was in zip(names, before, strict=True)] == [2, 1, 1]


def test_failures_of_the_script_are_counted_apart(echo):
    before = sample(echo, "keelway_run_failures_total")

    echo.score(b"raise")
    echo.score(b"\xff")

    assert sample(echo, "keelway_run_failures_total") == before + 1


def test_times_fall_into_their_buckets(echo):
    slow = 'keelway_run_seconds_bucket{le="0.05"}'
    before = sample(echo, slow), sample(echo, "keelway_run_seconds_count"), sample(echo, "keelway_request_seconds_sum")

    echo.score(b"sleep 0.1")

    after = sample(echo, slow), sample(echo, "keelway_run_seconds_count"), sample(echo, "keelway_request_seconds_sum")
    assert (after[0], after[1]) == (before[0], before[1] + 1)
    assert after[2] >= before[2] + 0.1


def test_the_processes_are_measured(echo):
    assert sample(echo, "process_resident_memory_bytes") > 20e6
    assert sample(echo, "process_cpu_seconds_total") > 0
    assert sample(echo, "keelway_workers_ready") == 1


def test_probes_are_not_counted(echo):
    before = sample(echo, "keelway_request_seconds_count")

    echo.get("/readyz")

    assert sample(echo, "keelway_request_seconds_count") == before


def test_a_histogram_counts_each_value_in_all_buckets_that_hold_it():
    histogram = Histogram("h", "help", (1, 2.5))
    for value in (0.5, 1, 2, 7):
        histogram.observe(value)

    assert list(histogram.lines())[2:] == [
        'h_bucket{le="1"} 2',
        'h_bucket{le="2.5"} 3',
        'h_bucket{le="+Inf"} 4',
        "h_sum 10.500000",
        "h_count 4",
    ]
