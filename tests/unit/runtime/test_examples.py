"""The examples, served with the models their own train.py makes."""

import pytest


@pytest.fixture(scope="module")
def diabetes(serve_example):
    return serve_example("diabetes", "diabetes-ridge")


@pytest.fixture(scope="module")
def adult(serve_example):
    return serve_example("adult_frame", "adult-income")


def test_diabetes_scores_an_array(diabetes):
    answer = diabetes.score({"data": [[0.0] * 10, [0.1] * 10]})

    assert answer.status == 200
    assert answer.json()[0] == pytest.approx(152.1, abs=0.5)
    assert float(answer.headers["x-ms-run-fn-exec-ms"]) > 0


def test_diabetes_refuses_nine_measurements_with_the_place(diabetes):
    answer = diabetes.score({"data": [[0.0] * 10, [0.1] * 9]})

    assert answer.status == 400
    assert answer.json()["message"].startswith("$.data[1]: expected 10 items")
    assert answer.headers["x-ms-run-function-failed"] == "False"


def test_diabetes_refuses_a_form(diabetes):
    assert diabetes.score(b"data=1", {"content-type": "application/x-www-form-urlencoded"}).status == 415


def test_diabetes_describes_its_input(diabetes):
    definitions = diabetes.get("/swagger.json").json()["definitions"]

    assert list(definitions["ServiceInput"]["properties"]) == ["data"]
    assert len(definitions["ServiceInput"]["example"]["data"][0]) == 10
    assert definitions["ServiceOutput"]["example"] == [201.5]


def test_adult_scores_the_records_power_bi_sends(adult):
    rows = [
        {"age": 25, "workclass": "Private", "hours_per_week": 20},
        {"hours_per_week": 70, "workclass": "Self-emp", "age": 60},
    ]

    assert adult.score({"data": rows}).json() == [0, 1]


@pytest.mark.parametrize("unknown", ["workclass", "hours_per_week"])
def test_adult_scores_a_person_of_whom_not_all_is_known(adult, unknown):
    person = {"age": 60, "workclass": "Private", "hours_per_week": 70, unknown: None}

    answer = adult.score({"data": [person]})

    assert answer.status == 200
    assert set(answer.json()) <= {0, 1}


def test_adult_refuses_a_misspelt_column(adult):
    answer = adult.score({"data": [{"age": 25, "workclass": "Private", "hours_a_week": 20}]})

    assert answer.status == 400
    assert "hours_per_week" in answer.json()["message"]


def test_old_imports_are_warned_of_once_each(adult):
    warnings = [event["message"] for event in adult.events("log") if event["level"] == "WARNING"]

    assert len(warnings) == 2
    assert "azureml.train.automl" in warnings[0] + warnings[1]
    assert "sklearn.externals.joblib" in warnings[0] + warnings[1]
