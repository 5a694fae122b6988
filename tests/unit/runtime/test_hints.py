"""Scripts without decorators whose run() has type hints: which arguments it gets and what callers are refused for."""

# ruff: noqa: UP006, UP007, UP017, UP045 - the spellings of Python 3.9 are tested
from __future__ import annotations

import asyncio
import base64
import datetime
import enum
import functools
import json
import sys
import typing
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from keelway_runtime.arguments import Call
from keelway_runtime.scoring import Scorer
from keelway_runtime.script import Script, ScriptError

if typing.TYPE_CHECKING:
    from somewhere import Elsewhere  # type: ignore[import-not-found]

JSON = {"content-type": "application/json"}
UTC = datetime.timezone.utc


class Colour(enum.Enum):
    RED = "red"
    NONE = 0


class Point(typing.NamedTuple):
    x: float
    y: float = 0.0


class Options(typing.TypedDict, total=False):
    depth: int
    names: typing.List[str]


@dataclass
class Person:
    """With a member of a class of its own kind, a default and a check."""

    name: str
    age: int
    born: typing.Optional[datetime.date] = None
    children: typing.List[Person] = field(default_factory=list)

    def __post_init__(self):
        if self.age < 0:
            raise ValueError("age must not be negative")


@dataclass
class Broken:
    """Its own check has a mistake in it."""

    age: int

    def __post_init__(self):
        raise KeyError(self.age)


def scorer(run, *, is_async=False):
    return Scorer(Script(path=Path("score.py"), run=run, is_async=is_async))


def call(payload, *, method="POST", query=b"", headers=JSON):
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return Call(method, query, headers, body)


def score(run, payload, **options):
    answer = scorer(run).score(call(payload, **options))
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def refusal(run, payload, **options):
    answer = scorer(run).score(call(payload, **options))
    error = json.loads(answer.body)
    assert error["status_code"] == answer.status
    return answer.status, error["message"]


def taking(hint, **default):
    """A run(value: hint), and where it puts what it was given."""
    given = []

    def run(value):
        given.append(value)

    run.__annotations__["value"] = hint
    run.__defaults__ = tuple(default.values())
    return run, given


def run_person(data: Person, limit: float = 0.5) -> typing.List[float]:
    return [type(data).__name__, data.name, data.born, [child.name for child in data.children], limit]


def test_members_of_the_body_become_arguments_by_name():
    def run(rows: typing.List[typing.List[int]], scale: float, method: str = "sum", free=None):
        return [[scale * value for value in row] for row in rows] + [method, free]

    assert score(run, {"rows": [[1, 2]], "scale": 2}) == [[2.0, 4.0], "sum", None]
    assert score(run, {"scale": 0.5, "rows": [], "method": "max", "free": [7], "more": 1}) == ["max", [7]]


def test_hints_in_quotes_are_read_in_the_scripts_own_module():
    born = {"name": "Bea", "age": 1}

    assert score(run_person, {"data": {"name": "Ann", "age": 38, "born": "1986-03-01", "children": [born]}}) == [
        "Person",
        "Ann",
        "1986-03-01",
        ["Bea"],
        0.5,
    ]


@pytest.mark.parametrize(
    ("hint", "given", "expected"),
    [
        (int, 5, 5),
        (int, 5.0, 5),
        (float, 2, 2.0),
        (bool, False, False),
        (typing.List[bytes], ["AP8="], [b"\x00\xff"]),
        (Decimal, "0.10", Decimal("0.10")),
        (Decimal, 3, Decimal(3)),
        (datetime.date, "2024-02-29", datetime.date(2024, 2, 29)),
        (datetime.time, "12:30:00", datetime.time(12, 30)),
        (datetime.datetime, "2024-02-29T12:00:00Z", datetime.datetime(2024, 2, 29, 12, tzinfo=UTC)),
        (datetime.timedelta, 1.5, datetime.timedelta(seconds=1.5)),
        (Colour, "red", Colour.RED),
        (Colour, 0, Colour.NONE),
        (typing.Literal["a", 1], 1, 1),
        (typing.Optional[int], None, None),
        (typing.Optional[int], 5, 5),
        (typing.Union[int, str, None], "5", "5"),
        (typing.List[float], [1, 2.5], [1.0, 2.5]),
        (typing.Sequence[int], [1], [1]),
        (list, [1, "a"], [1, "a"]),
        (typing.Tuple[int, str], [1, "a"], (1, "a")),
        (typing.Tuple[int, ...], [1, 2, 3], (1, 2, 3)),
        (typing.Set[str], ["a", "a"], {"a"}),
        (typing.FrozenSet[str], ["a"], frozenset({"a"})),
        (typing.Dict[str, datetime.date], {"a": "2024-02-29"}, {"a": datetime.date(2024, 2, 29)}),
        (typing.Dict[int, float], {"1": 2}, {1: 2.0}),
        (typing.Mapping[Colour, typing.Any], {"red": None}, {Colour.RED: None}),
        (dict, {"1": 2}, {"1": 2}),
        (Point, [1], Point(1.0, 0.0)),
        (Options, {"depth": 1}, {"depth": 1}),
        (Person, {"name": "Ann", "age": 38}, Person("Ann", 38)),
    ],
    ids=str,
)
def test_values_are_converted_to_their_hint(hint, given, expected):
    run, values = taking(hint)

    score(run, {"value": given})

    assert values == [expected]
    assert type(values[0]) is type(expected)


@pytest.mark.skipif(sys.version_info < (3, 10), reason="int | None is of Python 3.10")
def test_a_union_may_be_written_with_a_bar():
    run, values = taking("list[int | None]")

    score(run, {"value": [1, None]})

    assert values == [[1, None]]


@pytest.mark.parametrize(
    ("hint", "given", "message"),
    [
        (int, True, "$.value: expected an integer, got true"),
        (int, "5", "$.value: expected an integer, got the string '5'"),
        (int, 1.5, "$.value: expected an integer, got the number 1.5"),
        (int, 2.0**60, "$.value: expected an integer"),
        (float, "1", "$.value: expected a number, got the string '1'"),
        (float, None, "$.value: expected a number, got null"),
        (bool, 1, "$.value: expected true or false, got the number 1"),
        (typing.List[bytes], ["!"], "$.value[0]: expected a base64 string, got the string '!'"),
        (typing.List[bytes], ["", "é"], "$.value[1]: expected a base64 string"),
        (Decimal, "NaN", "$.value: expected a decimal number"),
        (Decimal, "a lot", "$.value: expected a decimal number"),
        (datetime.date, "29.2.2024", "$.value: expected a date as YYYY-MM-DD"),
        (datetime.time, 7, "$.value: expected a time as hh:mm:ss"),
        (datetime.datetime, "noon", "$.value: expected a date and time"),
        (datetime.timedelta, 1e300, "$.value: expected a number of seconds"),
        (Colour, "blue", """$.value: expected one of "red", 0, got the string 'blue'"""),
        (Colour, False, """$.value: expected one of "red", 0, got false"""),
        (typing.Literal["a", 1], "b", """$.value: expected one of "a", 1"""),
        (typing.Optional[int], "5", "$.value: expected an integer or null, got the string '5'"),
        (typing.Union[int, typing.List[int]], [1, "a"], "$.value[1]: expected an integer, got the string 'a'"),
        (typing.List[int], {"a": 1}, "$.value: expected an array, got an object of 1"),
        (typing.List[typing.List[int]], [[1], [2, None]], "$.value[1][1]: expected an integer, got null"),
        (typing.Tuple[int, str], [1], "$.value: expected an array of 2, got an array of 1"),
        (typing.Tuple[int, str], [1, 2], "$.value[1]: expected a string, got the number 2"),
        (Point, [], "$.value: expected an array of 1 to 2, got an array of 0"),
        (set, [[1]], "$.value: expected an array (unhashable"),
        (typing.Dict[str, int], {"a": "x"}, "$.value.a: expected an integer, got the string 'x'"),
        (typing.Dict[int, int], {"a": 1}, "$.value.a: expected an integer, got the string 'a'"),
        (typing.Dict[str, int], [], "$.value: expected an object, got an array of 0"),
        (Options, {"width": 1}, "$.value: expected an object with depth (optional), names (optional), got width"),
        (Options, {"names": ["a", 1]}, "$.value.names[1]: expected a string, got the number 1"),
        (Person, {"name": "Ann"}, "$.value: expected an object with name, age, born (optional)"),
        (Person, {"name": "Ann", "age": 1, "brn": None}, "$.value: expected an object with name, age"),
        (Person, [], "$.value: expected an object with name, age"),
        (typing.List[Person], [{"name": "A", "age": "x"}], "$.value[0].age: expected an integer"),
        (Person, {"name": "A", "age": 9, "children": [{"name": 1, "age": 1}]}, "$.value.children[0].name: expected"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_400_with_the_place_and_what_was_expected(hint, given, message):
    run, values = taking(hint)

    status, said = refusal(run, {"value": given})

    assert (status, values) == (400, [])
    assert said.startswith(message)


def test_what_a_dataclass_refuses_by_itself_is_400_with_its_words():
    status, message = refusal(run_person, {"data": {"name": "Ann", "age": -1}})

    assert (status, message.split(":")[0]) == (400, "$.data")
    assert "age must not be negative" in message


def test_a_mistake_in_the_scripts_own_class_stays_500():
    run, _ = taking(Broken)

    answer = scorer(run).score(call({"value": {"age": 1}}))

    assert (answer.status, answer.has_run_failed, answer.run_ms) == (500, True, None)


def test_a_class_nested_too_deeply_is_400():
    value = '{"name": "A", "age": 1, "children": [' * 400 + "]}" * 400

    assert refusal(run_person, f'{{"data": {value}}}'.encode()) == (
        400,
        "$.data: expected a value that is not as deep",
    )


def test_a_missing_parameter_is_400():
    assert refusal(run_person, {"limit": 1}) == (400, "$.data: expected a value for this parameter, it is missing")


def test_null_is_taken_where_it_is_the_default():
    run, values = taking(float, value=None)

    score(run, {"value": None})
    score(run, {})

    assert values == [None, None]


@pytest.mark.parametrize(
    ("hint", "given", "dtype", "expected"),
    [
        (np.ndarray, [[1, 2], [3, 4]], "int64", [[1, 2], [3, 4]]),
        (np.ndarray, [1.5, None], "float64", [1.5, None]),
        (npt.NDArray[np.float32], [[1, 2]], "float32", [[1, 2]]),
        (npt.NDArray[np.floating], [1.5], "float64", [1.5]),
        (typing.List[np.ndarray], [[1]], None, None),
    ],
    ids=str,
)
def test_an_array_is_converted(hint, given, dtype, expected):
    run, values = taking(hint)

    score(run, {"value": given})
    [value] = values

    if dtype is None:
        assert isinstance(value[0], np.ndarray)
    else:
        assert (str(value.dtype), np.where(np.isnan(value), None, value).tolist()) == (dtype, expected)


@pytest.mark.parametrize(
    ("hint", "given", "message"),
    [
        (np.ndarray, "1, 2", "$.value: expected an array, got the string '1, 2'"),
        (np.ndarray, [[1, 2], [3]], "$.value[1]: expected 2 items"),
        (np.ndarray, [[1, {}]], "$.value[0][1]: expected one float64, got an object of 0"),
        (npt.NDArray[np.int32], [[1], ["a"]], "$.value[1][0]: expected one int32, got the string 'a'"),
        (npt.NDArray[np.int8], [300], "$.value"),
        (np.ndarray, functools.reduce(lambda inner, _: [inner], range(200), 1), "$.value"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_array_that_does_not_fit_is_400_with_the_place(hint, given, message):
    status, said = refusal(taking(hint)[0], {"value": given})

    assert status == 400
    assert said.startswith(message)


def test_a_frame_comes_as_records_or_as_columns_and_data():
    run, values = taking(pd.DataFrame)
    frame = pd.DataFrame([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}])

    score(run, {"value": frame.to_dict("records")})
    score(run, {"value": json.loads(frame.to_json(orient="split"))})

    assert all(value.equals(frame) for value in values)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (5, "$.value: expected an array of objects, one a row or an object with columns, data, index (optional)"),
        ({"a": [1]}, "$.value: expected an array of objects"),
        ([{"a": 1}, [2]], "$.value[1]: expected an object, got an array of 1"),
        ({"columns": ["a"], "data": [[1, 2]]}, "$.value: expected an array of objects"),
        ({"columns": 5, "data": []}, "$.value.columns: expected an array, got the number 5"),
        ({"columns": [{}], "data": []}, "$.value.columns[0]: expected a string or an integer or a number"),
        ({"columns": ["a"], "data": [1]}, "$.value.data[0]: expected an array, got the number 1"),
    ],
    ids=str,
)
def test_a_frame_that_does_not_fit_is_400(given, message):
    status, said = refusal(taking(pd.DataFrame)[0], {"value": given})

    assert status == 400
    assert said.startswith(message)


def test_a_series_is_converted():
    run, values = taking(pd.Series)

    score(run, {"value": [1, 2.5]})

    assert values[0].tolist() == [1.0, 2.5]
    assert refusal(run, {"value": 5})[1].startswith("$.value: expected an array")


@pytest.mark.parametrize("hint", [str, "str", typing.Any, object, "Elsewhere", [float], np.array, "what it is"])
def test_a_lone_parameter_that_says_nothing_else_gets_the_body_as_text(hint):
    run, values = taking(hint)

    score(run, b'{"a": 1}')

    assert values == ['{"a": 1}']


def test_a_lone_parameter_of_bytes_gets_the_body_as_it_came():
    run, values = taking(bytes)

    score(run, b"\x00\xff", headers={"content-type": "image/png"})
    score(run, b"", method="GET", query=b"a=1")

    assert values == [b"\x00\xff", b'{"a":1}']


def test_bytes_beside_another_hint_are_a_base64_member():
    def run(image: bytes, size: int):
        return [image == b"\x00", size]

    assert score(run, {"image": base64.b64encode(b"\x00").decode(), "size": 3}) == [True, 3]


def test_a_text_with_an_optional_second_parameter_stays_the_body():
    def run(raw: str, method: str = "predict"):
        return [raw, method]

    assert score(run, b"text") == ["text", "predict"]


def test_several_texts_are_members():
    def run(question: str, context: str):
        return [question, context]

    assert score(run, {"question": "a", "context": "b"}) == ["a", "b"]


def test_several_parameters_without_any_hint_stay_refused():
    def run(a, b):
        return [a, b]

    with pytest.raises(ScriptError, match="type hints takes one argument; it has a, b"):
        scorer(run)


def test_headers_are_given_whatever_their_hint():
    def run(value: int, request_headers: typing.Dict[str, str]):
        return [value, request_headers["X-Tenant"]]

    made = scorer(run)

    assert json.loads(made.score(call({"value": 1}, headers={**JSON, "x-tenant": "bank"})).body) == [1, "bank"]
    assert list(made.schema.input["properties"]) == ["value"]


def test_a_get_takes_its_values_from_the_query():
    assert score(run_person, b"", method="GET", query=b'data={"name":"A","age":1}&limit=2', headers={}) == [
        "Person",
        "A",
        None,
        [],
        2.0,
    ]


def test_another_content_type_is_415():
    assert refusal(run_person, b"data=1", headers={"content-type": "application/x-www-form-urlencoded"})[0] == 415


def test_an_async_run_has_hints_too():
    async def run(value: datetime.date):
        return value.year

    answer = asyncio.run(scorer(run, is_async=True).score_async(call({"value": "2024-02-29"})))

    assert answer.body == b"2024"


def test_a_decorator_that_keeps_the_signature_keeps_the_hints():
    @functools.wraps(run_person)
    def around(*args, **kwargs):
        return ["around", *run_person(*args, **kwargs)]

    assert score(around, {"data": {"name": "A", "age": 1}})[:3] == ["around", "Person", "A"]


def test_hints_that_say_nothing_are_warned_of_once_and_pass_the_value_on(caplog):
    def run(count: int, other: Elsewhere, strange: typing.List[Path]):
        return [count, other, strange]

    made = scorer(run)
    answer = made.score(call({"count": 1, "other": {"a": 1}, "strange": ["x"]}))

    assert answer.body == b'[1,{"a":1},["x"]]'
    [warning] = caplog.messages
    assert "Elsewhere" in warning
    assert "Path" in warning
    assert made.schema.input["properties"]["other"] == {}


def test_an_answer_of_an_unknown_type_is_not_warned_of(caplog):
    def run(raw: str) -> Path:
        return Path(raw)

    assert score(run, b"a") == "a"
    assert caplog.messages == []


def test_the_schema_has_each_parameter_with_an_example_that_the_service_takes():
    schema = scorer(run_person).schema

    person = schema.input["properties"]["data"]
    assert schema.input["required"] == ["data"]
    assert person["required"] == ["name", "age"]
    assert person["properties"]["age"] == {"type": "integer", "format": "int64"}
    assert person["properties"]["born"] == {"type": "string", "format": "date", "x-nullable": True}
    assert person["properties"]["children"] == {"type": "array", "items": {"type": "object"}}
    assert schema.output == {"type": "array", "items": {"type": "number", "format": "double"}, "example": [1.5]}
    assert score(run_person, schema.input["example"])[0] == "Person"


def test_without_a_return_hint_the_output_is_free():
    run, _ = taking(int)

    assert scorer(run).schema.output == {"type": "object", "example": {}}


def test_a_return_hint_describes_the_output_of_a_raw_body_too():
    def run(raw: str) -> typing.Dict[str, float]:
        return {}

    assert scorer(run).schema.output["additionalProperties"] == {"type": "number", "format": "double"}


@pytest.fixture(scope="module")
def people(serve):
    return serve("""
        from __future__ import annotations

        import enum
        from dataclasses import dataclass
        from datetime import date, timedelta
        from decimal import Decimal
        from typing import Any, Dict, List, Literal, NamedTuple, Optional, Tuple, TypedDict, Union

        import numpy as np
        import pandas as pd

        class Kind(enum.Enum):
            OLD = "old"
            NEW = 2

        class Point(NamedTuple):
            x: float
            y: float = 0.0

        class Options(TypedDict, total=False):
            depth: int

        @dataclass
        class Person:
            name: str
            parent: Optional[Person] = None

        def init():
            pass

        def run(
            people: List[Person], kind: Kind, mode: Literal["a", "b"], at: Point, pair: Tuple[int, str],
            options: Options, limits: Dict[str, Decimal], rows: np.ndarray, frame: pd.DataFrame, series: pd.Series,
            day: date, span: timedelta, image: bytes, one: Union[int, str], free: Any, limit: float = 0.5,
        ) -> Dict[str, List[Person]]:
            return {"people": people}
    """).wait_ready()


@pytest.mark.parametrize("version", ["2", "3.0", "3.1"])
def test_the_document_of_every_hint_is_valid(people, version):
    validate = pytest.importorskip("openapi_spec_validator").validate

    document = people.get(f"/swagger.json?version={version}").json()

    validate(document)


def test_the_documents_example_is_scored(people):
    example = people.get("/swagger.json").json()["definitions"]["ServiceInput"]["example"]

    answer = people.score(example)

    assert answer.status == 200, answer.body
    assert answer.json() == {"people": [{"name": "text", "parent": None}]}


def test_a_misfit_is_400_over_http(people):
    example = people.get("/swagger.json").json()["definitions"]["ServiceInput"]["example"]

    answer = people.score({**example, "people": [{"name": "A", "parent": {"name": 1}}]})

    assert answer.status == 400
    assert answer.json()["message"] == "$.people[0].parent.name: expected a string, got the number 1"
    assert answer.headers["x-ms-run-function-failed"] == "False"
