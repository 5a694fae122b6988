"""Bodies that want to cost more than they weigh."""

import json
import time

import pytest

from tests.support.problems import assert_problem

JSON = {"Content-Type": "application/json"}


def seconds(call):
    started = time.monotonic()
    response = call()
    return time.monotonic() - started, response


BODIES = {
    "deep lists": b"[" * 500_000 + b"]" * 500_000,
    "deep objects": b'{"a":' * 150_000 + b"1" + b"}" * 150_000,
    "a long number": b'{"name": ' + b"9" * 1_000_000 + b"}",
    "a long float": b'{"name": 1e' + b"9" * 1_000_000 + b"}",
    "many keys": json.dumps({f"k{n}": 0 for n in range(80_000)}).encode(),
    "the same key often": b"{" + b",".join([b'"name": "a"'] * 80_000) + b', "x": 1}',
    "many grants": json.dumps({"name": "x", "grants": [{"role": "nobody"}] * 40_000}).encode(),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
@pytest.mark.parametrize("path", ["/v1/workspaces", "/v1/tokens"])
def test_a_hostile_body_is_refused_soon(api, path, body):
    took_s, response = seconds(lambda: api.admin.post(path, content=body, headers=JSON))

    assert_problem(response, "invalid-request")
    assert len(response.content) < 100_000
    assert took_s < 5


def test_a_million_keys_are_refused_without_eating_the_memory(api):
    w = f"/v1/workspaces/{api.workspace()}"
    before = api.rss_bytes
    for body in (
        json.dumps({f"k{n}": 0 for n in range(1_000_000)}).encode(),
        json.dumps({"files": [{}] * 1_000_000}).encode(),
        json.dumps({"files": [], "tags": {f"k{n}": n for n in range(1_000_000)}}).encode(),
    ):
        took_s, response = seconds(
            lambda body=body: api.admin.post(f"{w}/models/m/versions", content=body, headers=JSON)
        )

        assert_problem(response, "invalid-request")
        assert took_s < 15
    assert api.rss_bytes - before < 600 * 2**20
