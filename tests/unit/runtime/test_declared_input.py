"""Decorated scripts, scored in this process: which arguments run() gets and what callers are refused for."""

import asyncio
import datetime
import functools
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
from inference_schema.parameter_types.pandas_parameter_type import PandasParameterType
from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType
from inference_schema.schema_decorators import input_schema, output_schema

from keelway_runtime.arguments import Call
from keelway_runtime.rawhttp import AMLResponse
from keelway_runtime.scoring import Scorer
from keelway_runtime.script import Script, ScriptError

NUMBERS = NumpyParameterType(np.array([[1.0, 2.0, 3.0]]))
PEOPLE = PandasParameterType(pd.DataFrame([{"age": 38, "name": "Ann", "hours": 40.5}]))
NEW_YEAR = datetime.datetime(2024, 1, 1)  # noqa: DTZ001 - a sample without a zone is the common one
JSON = {"content-type": "application/json"}


def scorer(run, *, is_async=False):
    # The library keeps schemas by function name: each needs a name of its own, as scripts have modules of their own.
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


@input_schema("data", NUMBERS)
@output_schema(NumpyParameterType(np.array([1.0])))
def run_array(data):
    assert isinstance(data, np.ndarray)
    return [str(data.dtype), *data.sum(axis=1)]


@input_schema("data", PEOPLE)
def run_frame(data):
    assert isinstance(data, pd.DataFrame)
    return [list(data.columns), data]


@input_schema("data", NUMBERS)
@input_schema("method", StandardPythonParameterType("predict"))
def run_with_default(data, method="predict", request_headers=None, scale=2):
    return [method, scale, request_headers["X-Tenant"]]


@input_schema("data", NUMBERS)
@input_schema("method", StandardPythonParameterType("predict"))
def run_with_unfit_defaults(data=None, method=None):
    return [type(data).__name__, method]


@input_schema("pair", StandardPythonParameterType((1, 2)))
def run_with_a_tuple(pair=(3, 4)):
    return sum(pair)


@input_schema("data", NUMBERS, optional=True)
def run_optional(data=None):
    return data is None


@input_schema("data", NUMBERS, convert_to_provided_type=False)
def run_unconverted(data):
    return type(data).__name__


@input_schema(
    "request",
    StandardPythonParameterType(
        {"rows": NUMBERS, "people": PEOPLE, "when": [StandardPythonParameterType(datetime.date(2024, 1, 1))], "free": 1}
    ),
)
def run_nested(request):
    return [type(value).__name__ for value in request.values()]


@input_schema("data", NUMBERS)
def run_raising(data):
    raise ValueError("Invalid input array, says the user's own code")


@input_schema("data", NUMBERS)
async def run_async(data):
    return data.sum()


def test_an_array_is_converted_to_its_samples_type():
    assert score(run_array, {"data": [[1, 2, 3], [4, 5, 6]]}) == ["float64", 6.0, 15.0]


@pytest.mark.parametrize(
    ("data", "path", "expected"),
    [
        ("[1, 2, 3]", "$.data", "an array of shape any x 3"),
        (7, "$.data", "got the number 7"),
        (None, "$.data", "got null"),
        ({"a": 1}, "$.data", "got an object of 1"),
        ([], "$.data", "at least one item"),
        ([1, 2, 3], "$.data[0]", "an array of shape any x 3"),
        ([[1, 2, 3], [1, 2]], "$.data[1]", "3 items"),
        ([[1, 2, 3, 4]], "$.data[0]", "3 items"),
        ([[1, 2, 3], [1, "two", 3]], "$.data[1][1]", "expected one float64, got the string 'two'"),
        ([[1, 2, [3]]], "$.data[0][2]", "expected one float64, got an array of 1"),
    ],
)
def test_an_array_that_does_not_fit_is_400_with_the_place(data, path, expected):
    status, message = refusal(run_array, {"data": data})

    assert status == 400
    assert message.startswith(f"{path}: ")
    assert expected in message


def test_missing_figures_may_come_as_null_or_nan():
    assert score(run_array, {"data": [[1, None, 3]]}) == ["float64", None]
    assert score(run_array, b'{"data": [[1, NaN, 3]]}') == ["float64", None]


def test_a_frame_has_its_samples_columns_in_its_samples_order():
    row = {"hours": 40, "age": 38, "name": "Ann"}

    assert score(run_frame, {"data": [row]}) == [["age", "name", "hours"], [{"age": 38, "name": "Ann", "hours": 40.0}]]


@pytest.mark.parametrize(
    ("data", "path", "expected"),
    [
        ("text", "$.data", "a frame (records)"),
        ({"age": 1}, "$.data", "a"),
        ([[38, "Ann", 40]], "$.data", "age, name, hours"),
        ([{"age": 38, "name": "Ann"}], "$.data[0]", "the columns age, name, hours, got age, name"),
        ([{"age": 38, "name": "Ann", "hours": 1, "extra": 1}], "$.data[0]", "got age, name, hours, extra"),
        ([{"age": 38, "name": "Ann", "huors": 40}], "$.data", "the columns age, name, hours, got age, name, huors"),
        ([{"age": 1, "name": "A", "hours": 1}, {"age": "old", "name": "B", "hours": 1}], "$.data[1].age", "int64"),
        ([{"age": None, "name": "A", "hours": 1}], "$.data[0].age", "expected int64, got null"),
    ],
)
def test_a_frame_that_does_not_fit_is_400_with_the_place(data, path, expected):
    status, message = refusal(run_frame, {"data": data})

    assert status == 400
    assert message.startswith(f"{path}: ")
    assert expected in message


@pytest.mark.parametrize("orient", ["split", "index", "columns", "table", "values"])
def test_frames_come_in_every_orient(orient):
    frame = pd.DataFrame([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}])

    def run(data):
        return data.shape

    run.__name__ = f"run_{orient}"
    decorated = input_schema("data", PandasParameterType(frame, orient=orient))(run)

    assert score(decorated, {"data": json.loads(frame.to_json(orient=orient))}) == [2, 2]
    assert refusal(decorated, {"data": "text"})[0] == 400


@pytest.mark.parametrize(
    ("sample", "given", "expected"),
    [
        (1, 5, 5),
        (1.5, 2, 2),
        ("a", "b", "b"),
        (True, False, False),
        (b"a", "YQ==", "YQ=="),
        (datetime.date(2024, 1, 1), "2024-02-29", "2024-02-29"),
        (NEW_YEAR, "2024-02-29T12:00:00", "2024-02-29T12:00:00"),
        (datetime.time(1), "12:30:00", "12:30:00"),
        ({"a": 1}, {"b": 2}, {"b": 2}),
        ([1], ["any"], ["any"]),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_standard_types_are_converted(sample, given, expected):
    def run(value):
        return value

    run.__name__ = f"run_standard_{type(sample).__name__}"

    assert score(input_schema("value", StandardPythonParameterType(sample))(run), {"value": given}) == expected


@pytest.mark.parametrize(
    ("sample", "given", "expected"),
    [
        (1, "5", "expected an integer, got the string '5'"),
        (1, 1.5, "expected an integer, got the number 1.5"),
        (1.5, "2", "expected a number"),
        ("a", 1, "expected a string"),
        (True, 1, "expected true or false"),
        (b"a", "YQ", "expected a base64 string"),
        (b"a", 7, "expected a base64 string"),
        (datetime.date(2024, 1, 1), "29.2.2024", "expected a date as YYYY-MM-DD"),
        (datetime.date(2024, 1, 1), 7, "expected a date as YYYY-MM-DD"),
        (NEW_YEAR, "noon", "expected a date and time"),
        ({"a": 1}, [], "expected an object"),
        ([1], {}, "expected an array"),
    ],
    ids=repr,
)
def test_another_type_is_400_with_what_was_expected(sample, given, expected):
    def run(value):
        return value

    run.__name__ = f"run_refusing_{type(sample).__name__}"

    status, message = refusal(input_schema("value", StandardPythonParameterType(sample))(run), {"value": given})

    assert status == 400
    assert message.startswith(f"$.value: {expected}")


def test_nested_types_are_converted_each_in_its_place():
    people = [{"age": 1, "name": "A", "hours": 1}]
    request = {"rows": [[1, 2, 3]], "people": people, "when": ["2024-02-29"], "free": "x"}

    assert score(run_nested, {"request": request}) == ["ndarray", "DataFrame", "list", "str"]


@pytest.mark.parametrize(
    ("request_value", "path"),
    [
        ([], "$.request"),
        ({"rows": [[1, 2]]}, "$.request.rows[0]"),
        ({"people": [{"age": "x", "name": "A", "hours": 1}]}, "$.request.people[0].age"),
    ],
)
def test_a_nested_misfit_is_400_with_its_path(request_value, path):
    status, message = refusal(run_nested, {"request": request_value})

    assert (status, message.split(":")[0]) == (400, path)


def test_a_value_error_of_the_users_own_code_stays_500():
    answer = scorer(run_raising).score(call({"data": [[1, 2, 3]]}))

    assert answer.status == 500
    assert answer.has_run_failed


def test_defaults_are_honoured_and_headers_given():
    headers = {**JSON, "x-tenant": "bank"}
    least, full = {"data": [[1, 2, 3]]}, {"method": "fit", "scale": 3, "data": [[1, 2, 3]]}

    assert score(run_with_default, least, headers=headers) == ["predict", 2, "bank"]
    assert score(run_with_default, full, headers=headers) == ["fit", 3, "bank"]


@pytest.mark.parametrize(("payload", "missing"), [({}, "data"), ({"data": [[1, 2, 3]]}, "method")])
def test_a_default_that_the_declared_type_refuses_leaves_the_parameter_required(payload, missing):
    status, message = refusal(run_with_unfit_defaults, payload)

    assert (status, message.split(":")[0]) == (400, f"$.{missing}")
    assert scorer(run_with_unfit_defaults).schema.required == ("data", "method")


def test_a_default_of_a_type_that_json_has_not_is_honoured():
    assert score(run_with_a_tuple, {}) == 7


def test_a_parameter_with_such_a_default_is_taken_when_it_is_given():
    payload = {"data": [[1, 2, 3]], "method": "fit"}

    assert score(run_with_unfit_defaults, payload) == ["ndarray", "fit"]


@pytest.mark.parametrize("payload", [{}, {"data": None}])
def test_an_optional_input_may_be_left_out(payload):
    assert score(run_optional, payload) is True


def test_an_input_can_be_left_as_it_came():
    assert score(run_unconverted, {"data": "anything"}) == "str"


def test_a_get_takes_its_values_from_the_query():
    assert score(run_array, b"", method="GET", query=b"data=%5B%5B1,2,3%5D%5D", headers={}) == ["float64", 6.0]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "empty"),
        (b"{", "not JSON"),
        (b"{'data': 1}", "not JSON"),
        (b"\xff", "not UTF-8"),
        (b"[NaN", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1]", "$: expected an object"),
        (b"null", "got null"),
        (b"{}", "$.data: expected a value"),
    ],
)
def test_a_body_that_is_no_object_with_the_parameters_is_400(body, said):
    status, message = refusal(run_array, body)

    assert status == 400
    assert said in message


@pytest.mark.parametrize(
    "content_type", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; b=c"]
)
def test_another_content_type_is_415_and_told_which_to_send(content_type):
    status, message = refusal(run_array, {"data": [[1, 2, 3]]}, headers={"content-type": content_type})

    assert status == 415
    assert "Content-Type: application/json" in message


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON", "application/ld+json"])
def test_every_spelling_of_json_is_taken(content_type):
    score(run_array, {"data": [[1, 2, 3]]}, headers={"content-type": content_type})


def test_an_async_run_is_converted_for_too():
    answer = asyncio.run(scorer(run_async, is_async=True).score_async(call({"data": [[1, 2, 3]]})))

    assert answer.body == b"6.0"


def test_a_decorator_around_the_schema_changes_nothing():
    @functools.wraps(run_array)
    def around(*args, **kwargs):
        return ["around", *run_array(*args, **kwargs)]

    assert score(around, {"data": [[1, 2, 3]]}) == ["around", "float64", 6.0]
    assert refusal(around, {"data": 1})[0] == 400


def test_an_input_that_run_does_not_take_is_found_at_the_start():
    def run_misnamed(data):
        return data

    with pytest.raises(ScriptError, match="rows"):
        scorer(input_schema("rows", NUMBERS)(run_misnamed))


def test_the_schema_documents_inputs_and_output_with_examples():
    schema = scorer(run_array).schema

    assert schema.input["example"] == {"data": [[1.0, 2.0, 3.0]]}
    assert schema.input["properties"]["data"]["items"]["items"] == {"type": "number", "format": "double"}
    assert schema.output["example"] == [1.0]


def test_the_schema_says_nothing_of_request_headers():
    assert set(scorer(run_with_default).schema.input["properties"]) == {"data", "method", "scale"}


def test_an_output_alone_leaves_the_input_free():
    @output_schema(NumpyParameterType(np.array([1.0])))
    def run_output_only(raw):
        return raw

    made = scorer(run_output_only)

    assert made.schema.input == {"type": "object", "example": {}}
    assert made.score(call(b"text")).body == b'"text"'


def test_a_mixed_array_is_offered_in_newer_versions_only():
    @input_schema("data", StandardPythonParameterType([1, "a"]))
    def run_mixed(data):
        return data

    assert scorer(run_mixed).schema.versions == ("3.0", "3.1")


def test_without_an_enforced_shape_any_shape_passes_and_the_type_is_still_checked():
    @input_schema("data", NumpyParameterType(np.array([[1.0, 2.0]]), enforce_shape=False))
    def run_shapeless(data):
        return data.shape

    assert score(run_shapeless, {"data": [1, 2, 3]}) == [3]
    assert refusal(run_shapeless, {"data": ["x"]})[1].startswith("$.data: expected an array of float64")


def test_a_structured_array_takes_records():
    @input_schema("data", NumpyParameterType(np.array([(1, "a")], dtype=[("n", "i8"), ("s", "U5")])))
    def run_structured(data):
        return data["n"] * 2

    assert score(run_structured, {"data": [{"n": 2, "s": "b"}]}) == [4]
    assert refusal(run_structured, {"data": [{"n": 2}]})[0] == 400


@pytest.fixture(scope="module")
def spark():
    sql = pytest.importorskip("pyspark.sql", reason="pyspark is not installed")
    if shutil.which("java") is None:
        pytest.skip("pyspark needs a JVM, and there is no java")
    session = sql.SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    yield session
    session.stop()


@pytest.mark.filterwarnings("ignore")  # pyspark's own
def test_a_spark_frame_is_converted(spark):
    from inference_schema.parameter_types.spark_parameter_type import SparkParameterType

    @input_schema("data", SparkParameterType(spark.createDataFrame([(1, "a")], ["n", "s"])))
    def run_spark(data):
        return [row.asDict() for row in data.collect()]

    schema = scorer(run_spark).schema.input

    assert score(run_spark, {"data": [{"s": "b", "n": 2}]}) == [{"n": 2, "s": "b"}]
    assert schema["properties"]["data"]["items"]["properties"]["n"] == {"type": "integer", "format": "int64"}
    assert refusal(run_spark, {"data": [{"n": 2}]})[1].startswith("$.data: expected an array of objects with n, s")
    assert refusal(run_spark, {"data": 5})[0] == 400


def test_a_decorator_counts_and_hints_beside_it_do_not():
    @input_schema("data", NUMBERS)
    def run_hinted(data: str) -> int:
        return type(data).__name__

    assert score(run_hinted, {"data": [[1, 2, 3]]}) == "ndarray"


def test_a_declared_run_may_answer_with_a_response():
    @input_schema("data", NUMBERS)
    def run_responding(data):
        return AMLResponse({"sum": float(data.sum())}, 201, {"X-Model": "sum"}, json_str=True)

    answer = scorer(run_responding).score(call({"data": [[1, 2, 3]]}))

    assert (answer.status, answer.body, dict(answer.headers)) == (201, b'{"sum":6.0}', {"x-model": "sum"})
