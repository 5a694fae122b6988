"""The problems that the API knows."""

import json
import re
from pathlib import Path

import pytest

import keelway_api
from keelway.contracts.problems import PROBLEMS
from keelway_api.errors import InvalidRequest, Problem, answer

API = Path(str(keelway_api.__file__)).parent
SOURCE = "\n".join(path.read_text() for path in API.rglob("*.py"))


def test_each_problem_has_its_class():
    assert {kind.type for kind in [Problem, *Problem.__subclasses__()]} == set(PROBLEMS)


@pytest.mark.parametrize("name", [kind.__name__ for kind in Problem.__subclasses__()])
def test_a_problem_that_is_documented_can_happen(name):
    assert re.search(rf"(?<!class ){name}\(|raise {name}\b", SOURCE)


def test_a_problem_can_quote_half_of_a_surrogate_pair():
    problem = InvalidRequest("tags", "not \ud800, für immer")

    body = bytes(answer(problem, instance="/v1/x", request_id="id").body)

    assert json.loads(body)["detail"] == "tags: not \ud800, für immer"
    assert "für".encode() in body
