import dataclasses
import datetime
import json
from collections import namedtuple
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from uuid import UUID

import numpy as np
import pandas as pd
import pytest

from keelway_runtime.encode import encode

Point = namedtuple("Point", "x y")


@dataclasses.dataclass
class Score:
    value: float
    labels: np.ndarray


class Colour(Enum):
    RED = "red"


NOON = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.timezone.utc)  # noqa: UP017 - Python 3.9 runs this too


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([1, 2.5, "a", None, True], [1, 2.5, "a", None, True]),
        ("[1, 2]", "[1, 2]"),
        (np.float32(0.5), 0.5),
        (np.int64(7), 7),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.asfortranarray([[1, 2], [3, 4]])[:, ::-1], [[2, 1], [4, 3]]),
        (np.array(["a", "bc"]), ["a", "bc"]),
        (np.array([{"a": np.int8(1)}], dtype=object), [{"a": 1}]),
        (np.array([], dtype=float), []),
        ({"nested": [np.arange(2)]}, {"nested": [[0, 1]]}),
        (pd.DataFrame({"a": [1, 2], "b": ["x", None]}), [{"a": 1, "b": "x"}, {"a": 2, "b": None}]),
        (pd.Series([1.5, float("nan")]), [1.5, None]),
        (pd.Index(["a", "b"]), ["a", "b"]),
        (pd.DataFrame({"t": [pd.Timestamp(NOON), pd.NaT]}), [{"t": "2024-02-29T12:00:00+00:00"}, {"t": None}]),
        (pd.NA, None),
        ([float("nan"), float("inf"), -float("inf")], [None, None, None]),
        (NOON, "2024-02-29T12:00:00+00:00"),
        (NOON.date(), "2024-02-29"),
        (NOON.time(), "12:00:00"),
        (datetime.timedelta(minutes=1), 60.0),
        (Decimal("0.10"), "0.10"),
        (Decimal("NaN"), None),
        (b"\x00\xff", "AP8="),
        (bytearray(b"a"), "YQ=="),
        (memoryview(b"a"), "YQ=="),
        (Score(0.5, np.arange(2)), {"value": 0.5, "labels": [0, 1]}),
        (Point(1, (2, 3)), [1, [2, 3]]),
        ({1}, [1]),
        (Colour.RED, "red"),
        (UUID(int=0), "00000000-0000-0000-0000-000000000000"),
        (PurePosixPath("a/b"), "a/b"),
        ({7: "a", 2.5: "b", None: "c", True: "d"}, {"7": "a", "2.5": "b", "null": "c", "true": "d"}),
        ({np.int64(1): [float("nan"), np.arange(2)]}, {"1": [None, [0, 1]]}),
        (2**70, 2**70),
        ({"big": [2**70, NOON.date()]}, {"big": [2**70, "2024-02-29"]}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_run_returns_becomes_json(value, expected):
    assert json.loads(encode(value), parse_constant=pytest.fail) == expected


@pytest.mark.parametrize(
    "value",
    [object(), 1j, np.complex128(1), {"a": lambda: 0}, {object(): 1}],
    ids=["object", "complex", "complex128", "function in a dict", "object as a key"],
)
def test_what_has_no_json_form_is_a_type_error(value):
    with pytest.raises(TypeError):
        encode(value)


def test_a_frame_with_two_columns_of_one_name_is_refused_not_shortened():
    with pytest.raises(TypeError, match="two columns"):
        encode(pd.DataFrame([[1, 2]], columns=["a", "a"]))
