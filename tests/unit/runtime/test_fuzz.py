"""Bodies made from the schema that a declared script serves, and then bent: never a 5xx, always JSON."""

from __future__ import annotations

import http.client
import json
import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

DECLARED = """
    import datetime
    import numpy as np
    import pandas as pd
    from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
    from inference_schema.parameter_types.pandas_parameter_type import PandasParameterType
    from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType
    from inference_schema.schema_decorators import input_schema, output_schema

    FRAME = pd.DataFrame([{"age": 38, "job": "baker", "hours": 40.0, "is_new": True}])
    NESTED = StandardPythonParameterType({
        "counts": StandardPythonParameterType([StandardPythonParameterType(1)]),
        "table": NumpyParameterType(np.array([[1, 2]])),
    })

    def init():
        pass

    @input_schema("data", NumpyParameterType(np.array([[1.0, 2.0]])))
    @input_schema("frame", PandasParameterType(FRAME))
    @input_schema("nested", NESTED)
    @input_schema("name", StandardPythonParameterType("ann"))
    @input_schema("scale", StandardPythonParameterType(1.5))
    @input_schema("number", StandardPythonParameterType(1))
    @input_schema("is_fast", StandardPythonParameterType(True))
    @input_schema("day", StandardPythonParameterType(datetime.date(2026, 1, 31)))
    @output_schema(StandardPythonParameterType({"rows": StandardPythonParameterType(1)}))
    def run(data, frame, nested, day, name="", scale=1.0, number=1, is_fast=False):
        return {"rows": len(data), "frame": frame, "given": [nested, name, scale, number, is_fast, day], "data": data}
"""
HINTED = """
    from dataclasses import dataclass
    from typing import Optional

    @dataclass
    class Person:
        name: str
        age: int
        hours: Optional[float] = None

    def init():
        pass

    def run(people: list[Person], table: list[list[float]], is_fast: bool = False, more: Optional[dict] = None):
        return {"people": people, "table": table, "is_fast": is_fast, "more": more}
"""
TYPES = ["application/json", "application/json; charset=utf-8", "application/vnd.api+json", "text/plain", ";", ""]
DATE = re.compile(r"\d{4}-\d\d-\d\d")
ALIKE: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(),
    str: st.text(max_size=20),
    "date": st.dates().map(str),
}
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
AT_MOST_BYTES = 64 * 1024

texts = st.text(st.characters(exclude_categories=()), max_size=20)  # halves of surrogate pairs too
leaves = st.none() | st.booleans() | st.integers() | st.integers(-(10**40), 10**40) | st.floats() | texts
anything = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4))


@st.composite
def like(draw: st.DrawFn, value: Any, one_in: int) -> Any:
    """A value of the same form as this one; in one place of so many, of any other."""

    def is_to_differ() -> bool:
        return draw(st.integers(1, one_in)) == one_in

    if is_to_differ():
        return draw(anything)
    if isinstance(value, dict):
        return {name: draw(like(inner, one_in)) for name, inner in value.items() if not is_to_differ()}
    if isinstance(value, list) and value:
        is_row = not isinstance(value[0], (list, dict))  # whose length matters
        return [draw(like(value[0], one_in)) for _ in range(len(value) if is_row else draw(st.integers(0, 3)))]
    return draw(st.just(value) | ALIKE.get("date" if DATE.fullmatch(str(value)) else type(value), leaves))


@st.composite
def bent(draw: st.DrawFn, values: st.SearchStrategy[Any]) -> bytes:
    """A body of such a value; one in four with some of its bytes replaced."""
    body = json.dumps(draw(values), ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 3)):
        return body[:AT_MOST_BYTES]
    place = draw(st.integers(0, len(body)))
    return body[:place] + draw(st.binary(max_size=8)) + body[place + draw(st.integers(0, 8)) :]


class Caller:
    """A kept connection to /score, which must not have to be opened again."""

    def __init__(self, server) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        self._socket: Any = None
        self.statuses: Counter[int] = Counter()

    def check(self, body: bytes, content_type: str) -> None:
        self._connection.request("POST", "/score", body, {"content-type": content_type})
        answer = self._connection.getresponse()
        told = json.loads(answer.read(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
        assert answer.status in (200, 400, 415), (answer.status, body)
        if answer.status != 200:
            assert set(told) == {"status_code", "message"}
            assert told["status_code"] == answer.status
        self.statuses[answer.status] += 1
        assert self._socket in (None, self._connection.sock)
        self._socket = self._connection.sock

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="module", params=[DECLARED, HINTED], ids=["inference_schema", "type hints"])
def server(serve, request):
    return serve(request.param).wait_ready()


@pytest.fixture
def caller(server):
    caller = Caller(server)
    yield caller
    caller.close()


def test_bodies_like_the_served_schema_are_never_5xx(server, caller):
    served = server.get("/swagger.json").json()["definitions"]["ServiceInput"]["example"]

    bodies = bent(st.sampled_from([500, 50, 5]).flatmap(lambda one_in: like(served, one_in)))

    @settings(max_examples=100, deadline=None, suppress_health_check=SLOW)
    @given(bodies, st.sampled_from(TYPES[:3]) | st.sampled_from(TYPES))
    @example(b"", "application/json")
    @example(json.dumps(served).encode(), "application/json")
    @example(json.dumps(served).encode(), "text/csv")
    def check(body: bytes, content_type: str) -> None:
        caller.check(body, content_type)

    check()

    assert all(caller.statuses[status] for status in (200, 400, 415))
    assert sum(caller.statuses.values()) >= 50  # else it has not tried much


def test_what_schemathesis_makes_of_the_served_schema_is_never_5xx(server):
    schemathesis = pytest.importorskip("schemathesis")
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{server.port}/swagger.json?version=3.1")

    @settings(max_examples=30, deadline=None, suppress_health_check=SLOW)
    @given(schema["/score"]["POST"].as_strategy())
    def check(case: Any) -> None:
        answer = case.call(timeout=20)
        assert answer.status_code in (200, 400), answer.content
        assert answer.status_code == 200 or answer.json()["status_code"] == 400

    check()
