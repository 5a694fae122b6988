"""Requests scored together get what each would have got alone."""

import asyncio
import json
import threading
from pathlib import Path

import numpy as np
import orjson
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
from inference_schema.parameter_types.pandas_parameter_type import PandasParameterType
from inference_schema.schema_decorators import input_schema

from keelway_runtime import batchable
from keelway_runtime.arguments import Call
from keelway_runtime.batching import Batcher
from keelway_runtime.refusal import Refusal
from keelway_runtime.scoring import Scorer, error_answer
from keelway_runtime.script import Script, ScriptError
from keelway_runtime.settings import Settings


def scorer(run):
    return Scorer(Script(path=Path("score.py"), run=run, is_async=False))


def call(body):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Call("POST", b"", {"content-type": "application/json"}, data)


def alone(run, body):
    try:
        answer = scorer(run).score(call(body))
    except Refusal as refusal:
        answer = error_answer(refusal.status, refusal.message)
    return answer.status, answer.body


def together(run, bodies, **asked):
    batcher = Batcher(scorer(run), max_size=asked.get("max_size", 64), max_delay_ms=0)
    return [(answer.status, answer.body) for answer in batcher.score([call(body) for body in bodies])], batcher


CALLS = []  # rows of each call; inference_schema takes no function that closes over anything


def doubled():
    CALLS.clear()

    @input_schema("data", NumpyParameterType(np.array([[1.0, 2.0]])))
    def run(data, factor=1.0):
        CALLS.append(len(data))
        if (data == 13).any():
            raise ValueError("unlucky")
        return (data.sum(axis=1) * factor).tolist()

    return run


number = st.integers(-5, 13) | st.floats(-1e6, 1e6, allow_nan=False)
row = st.lists(number, min_size=2, max_size=2)
odd = st.sampled_from(
    [
        [],
        [[1, 2, 3]],
        [1, 2],
        "text",
        None,
        [[1, "x"]],
        [["1", "2"]],
        [[None, 1]],
        [[True, False]],
        {"a": 1},
        [[[1, 2]]],
    ]
)
body = st.one_of(
    st.fixed_dictionaries({"data": st.lists(row, max_size=4)}, optional={"factor": st.sampled_from([1, 1.0, 2, True])}),
    st.fixed_dictionaries({"data": odd}),
    st.sampled_from([{}, [], b"", b"{", b'{"data": [[NaN, 1]]}', b"\xff"]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(body, min_size=1, max_size=12))
def test_no_answer_goes_to_the_wrong_caller_whatever_comes_together(bodies):
    found, _ = together(doubled(), bodies)

    assert found == [alone(doubled(), one) for one in bodies]


frame_row = st.fixed_dictionaries({"n": number, "s": st.sampled_from(["a", "bc"])})


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(frame_row | st.just({"n": None, "s": "a"}) | st.just({"n": 1}), max_size=3), min_size=1))
def test_frames_are_put_together_only_where_their_types_agree(frames):
    @input_schema("data", PandasParameterType(pd.DataFrame({"n": [1.0], "s": ["a"]}), enforce_column_type=False))
    def run(data):
        return data.assign(twice=data["n"] * 2)

    bodies = [{"data": rows} for rows in frames]

    assert together(run, bodies)[0] == [alone(run, one) for one in bodies]


def test_rows_are_scored_at_once_and_shared_out_by_their_number():
    found, _ = together(doubled(), [{"data": [[n, 1]] * (1 + n % 3)} for n in range(6)])

    assert CALLS == [12]
    assert [orjson.loads(answer) for _, answer in found] == [[n + 1.0] * (1 + n % 3) for n in range(6)]


def test_other_parameters_are_never_mixed():
    found, _ = together(doubled(), [{"data": [[1, 2]], "factor": factor} for factor in (1, 2, 1, 2.0)])

    assert sorted(CALLS) == [1, 1, 2]
    assert [orjson.loads(answer) for _, answer in found] == [[3.0], [6.0], [3.0], [6.0]]


def test_an_error_stays_with_the_request_that_caused_it():
    found, _ = together(doubled(), [{"data": [[1, 2]]}, {"data": [[13, 1]]}, {"data": [[3, 4]]}, {"data": [["x", 1]]}])

    assert [status for status, _ in found] == [200, 500, 200, 400]
    assert found[0][1] == b"[3.0]"


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_whatever_the_script_raises_stays_with_its_request(error):
    def run(data: list[float]):
        if 13 in data:
            raise error
        return data

    found, _ = together(run, [{"data": [1]}, {"data": [13]}, {"data": [2]}])

    assert [status for status, _ in found] == [200, 500, 200]


@pytest.mark.parametrize(
    "result",
    [
        lambda data: float(data.sum()),
        lambda data: {"mean": 1.0},
        lambda data: "text",
        lambda data: [np.ones((len(data), 3)), np.zeros((len(data), 3))],
    ],
)
def test_a_run_without_a_result_for_each_row_is_not_batched_any_more(result):
    def run(data: np.ndarray):
        return result(data)

    found, batcher = together(run, [{"data": [[1, 2]]}, {"data": [[3, 4]]}])

    assert found == [alone(run, {"data": [[1, 2]]}), alone(run, {"data": [[3, 4]]})]
    assert batcher.max_size == 1


def test_a_result_whose_length_only_happens_to_be_right_is_found_out_by_the_first_request_alone():
    def run(data: list[float]):
        return ["always", "two"]

    batcher = Batcher(scorer(run), max_size=8, max_delay_ms=0)
    batcher.score([call({"data": [1.0]})])

    answers = batcher.score([call({"data": [1.0]}), call({"data": [2.0]})])
    assert [answer.body for answer in answers] == [b'["always","two"]'] * 2


@pytest.mark.parametrize(
    "value",
    [
        lambda data: {"prediction": (data * 2).tolist(), "rows": np.arange(len(data)) * 0},
        lambda data: data * 2,
        lambda data: tuple(map(float, data)),
        lambda data: pd.Series(data) * 2,
    ],
)
def test_each_kind_of_rows_is_taken_apart(value):
    def run(data: np.ndarray):
        return value(data)

    bodies = [{"data": [1, 2]}, {"data": [3]}, {"data": [4, 5, 6]}]

    assert together(run, bodies)[0] == [alone(run, one) for one in bodies]


def test_lists_of_a_hinted_run_are_put_together():
    calls = []

    def run(data: list[float]):
        calls.append(len(data))
        return [value + 1 for value in data]

    found, _ = together(run, [{"data": [1]}, {"data": [2, 3]}])

    assert (calls, [answer for _, answer in found]) == ([3], [b"[2.0]", b"[3.0,4.0]"])


def test_the_script_or_the_deployment_asks_for_it():
    asked = scorer(batchable(max_size=8, max_delay_ms=5)(doubled()))

    by_script = Batcher.of(asked, Settings(Path()))
    by_deployment = Batcher.of(asked, Settings(Path(), batch_size=16, batch_delay_ms=7))
    assert by_script is not None
    assert by_deployment is not None
    assert (by_script.max_size, by_script.max_delay_s) == (8, 0.005)
    assert (by_deployment.max_size, by_deployment.max_delay_s) == (16, 0.007)
    assert Batcher.of(scorer(doubled()), Settings(Path())) is None


@pytest.mark.parametrize("arguments", [{"max_size": 0}, {"max_delay_ms": -1}])
def test_impossible_sizes_are_refused(arguments):
    with pytest.raises(ValueError, match="at least"):
        batchable(**arguments)


def test_a_run_that_takes_text_or_headers_cannot_be_batched():
    def text(raw):
        return raw

    def headers(data: list[float], request_headers):
        return data

    for run in (text, headers):
        with pytest.raises(ScriptError, match="cannot be batched"):
            Batcher(scorer(run), max_size=8, max_delay_ms=0)


BATCHED = """
    import time
    from typing import List
    from keelway_runtime import batchable

    def init():
        pass

    @batchable(max_size=32)
    def run(data: List[float], pause: float = 0):
        time.sleep(pause)
        return [[value, len(data)] for value in data]
"""


def test_requests_that_wait_for_a_busy_worker_are_scored_together(serve):
    server = serve(BATCHED).wait_ready()
    busy = threading.Thread(target=server.score, args=({"data": [0], "pause": 2},))
    busy.start()
    server.wait_for(lambda: "keelway_requests_in_flight 1" in server.get("/metrics").body.decode())
    found = {}

    def ask(value):
        found[value] = server.score({"data": [value]}).json()

    callers = [threading.Thread(target=ask, args=(value,)) for value in range(1, 13)]
    for caller in [*callers]:
        caller.start()
    for caller in [busy, *callers]:
        caller.join()

    assert {value: answer[0][0] for value, answer in found.items()} == {value: float(value) for value in range(1, 13)}
    assert max(answer[0][1] for answer in found.values()) > 1
    assert "keelway_batch_size_sum 13.0" in server.get("/metrics").body.decode()
