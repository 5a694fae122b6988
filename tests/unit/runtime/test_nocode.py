"""Models without an entry script: real ones of each framework, and what is said of what does not fit."""

import json
import pickle
import sys

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from keelway_runtime import nocode
from keelway_runtime.encode import encode
from keelway_runtime.refusal import Refusal
from keelway_runtime.script import ScriptError

# What the libraries have to say to one another is not ours to fail for.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

X = np.array([[0.0, 1.0, 2.0], [3.0, 5.0, 4.0], [9.0, 7.0, 8.0], [1.0, 0.0, 5.0]] * 5)
Y = np.array([0, 1, 1, 0] * 5)
ROWS = X[:3].tolist()


class Service:
    """A loaded model, asked as a caller would."""

    def __init__(self, framework, folder):
        self.script = nocode.load(framework, folder)
        self.schema = self.script.schema

    def __call__(self, data, **more):
        return json.loads(encode(self.script.run(json.loads(json.dumps(data)), **more)))

    def refuses(self, data, **more):
        """The message of the 400 that this data gets."""
        with pytest.raises(Refusal) as refused:
            self(data, **more)
        assert refused.value.status == 400
        return refused.value.message


@pytest.fixture
def fitted(tmp_path):
    """fitted(model): the service of a pickled model."""

    def start(model, framework="ScikitLearn", name="model.pkl"):
        (tmp_path / name).write_bytes(pickle.dumps(model))
        return Service(framework, tmp_path)

    return start


def frame(**columns):
    return pytest.importorskip("pandas").DataFrame(columns)


# What a request may ask, told by scikit-learn's models


def test_predict_is_the_method_when_none_is_named(fitted):
    model = LogisticRegression().fit(X, Y)

    assert fitted(model)(ROWS) == model.predict(ROWS).tolist()


@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba", "decision_function"])
def test_each_method_of_the_model_can_be_asked_for(fitted, method):
    model = LogisticRegression().fit(X, Y)

    assert np.allclose(fitted(model)(ROWS, method=method), getattr(model, method)(ROWS))


def test_a_transformer_transforms(fitted):
    model = PCA(2).fit(X)

    assert np.allclose(fitted(model)(ROWS, method="transform"), model.transform(ROWS))


def test_a_sparse_answer_is_written_out(fitted):
    model = OneHotEncoder().fit([["a"], ["b"]])

    assert fitted(model)([["b"], ["a"]], method="transform") == [[0.0, 1.0], [1.0, 0.0]]


@pytest.mark.parametrize(
    "method", ["predict_proba", "fit", "get_params", "__class__", "coef_", "", None, ["predict"], 1]
)
def test_a_method_that_the_model_does_not_offer_is_refused_by_those_there_are(fitted, method):
    refused = fitted(LinearRegression().fit(X, Y)).refuses(ROWS, method=method)

    assert refused.startswith("$.method: expected predict, got ")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([[1, 2]], "$.data[0]: expected an array of 3 values, got an array of 2"),
        ([[1, 2, 3], [1, 2, 3, 4]], "$.data[1]: expected an array of 3 values, got an array of 4"),
        ([[1, 2, 3], 7], "$.data[1]: expected an array of 3 values, got the number 7"),
        ([[1, 2, 3], {"a": 1}], "$.data[1]: expected an array of 3 values, got an object of 1"),
        ([[1, 2, 3], None], "$.data[1]: expected an array of 3 values, got null"),
        ([1, 2, 3], "$.data[0]: expected an array of 3 values, got the number 1"),
        ([[1, [2], 3]], "$.data[0][1]: expected one value, got an array of 1"),
        ([[[1], [2], [3]]], "$.data[0][0]: expected one value, got an array of 1"),
        ([], "$.data: expected an array of at least one row, got an array of 0"),
        ({"a": 1}, "$.data: expected an array of at least one row, got an object of 1"),
        ("1,2,3", "$.data: expected an array of at least one row, got the string '1,2,3'"),
        (None, "$.data: expected an array of at least one row, got null"),
        ([[1, 2, "x"]], "could not convert string to float: 'x'"),
        ([[1, 2, {}]], "the model does not take it"),
        ([[1, 2, None]], "Input X contains NaN"),
        ([[1, 2, 1e999]], "Input X contains infinity"),
    ],
)
def test_data_that_does_not_fit_the_model_is_refused_by_what_it_takes(fitted, data, said):
    assert said in fitted(LogisticRegression().fit(X, Y)).refuses(data)


def test_null_is_a_missing_number_to_a_model_that_takes_them(fitted):
    model = HistGradientBoostingClassifier(max_iter=2).fit(X, Y)

    assert fitted(model)([[1, None, 3]]) == model.predict([[1, np.nan, 3]]).tolist()


@pytest.mark.parametrize("row", [{"age": 41, "city": "Bern"}, {"city": "Bern", "age": 41}, [41, "Bern"], [None, None]])
def test_a_model_that_was_fit_on_a_frame_takes_its_columns_by_name_or_in_order(fitted, row):
    people = frame(age=[20, 41, 60, 30] * 5, city=["Bern", "Rome", "Bern", "Rome"] * 5)
    columns = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["city"]), (SimpleImputer(), ["age"]))
    model = make_pipeline(columns, LogisticRegression()).fit(people, Y)

    answer = fitted(model)([row], method="predict_proba")

    asked = frame(age=[np.nan], city=[None]) if row == [None, None] else frame(age=[41], city=["Bern"])
    assert np.allclose(answer, model.predict_proba(asked))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([{"age": 1, "city": "x"}, {"age": 1}], "$.data[1]: expected an object with age, city, got age"),
        ([{"age": 1, "town": "x"}], "$.data[0]: expected an object with age, city, got age, town"),
        ([{"age": 1, "city": "x", "zip": 9}], "$.data[0]: expected an object with age, city, got age, city, zip"),
        ([{}], "$.data[0]: expected an object with age, city, got none"),
        ([[1]], "$.data[0]: expected an array of 2 values or an object with age, city, got an array of 1"),
        ([[1, "Oslo"]], "Found unknown categories ['Oslo'] in column 1"),
        ([["Bern", 1]], "the model does not take it"),
    ],
)
def test_columns_that_do_not_fit_are_named(fitted, data, said):
    people = frame(age=[1, 2, 1, 2] * 5, city=["Bern", "Rome", "Bern", "Rome"] * 5)

    service = fitted(make_pipeline(OneHotEncoder(), LogisticRegression()).fit(people, Y))

    assert said in service.refuses(data)
    assert service([{"age": 1, "city": "Bern"}]) == [0]


@pytest.mark.parametrize(
    ("vectorizer", "data"),
    [
        (TfidfVectorizer(), ["good wine", "bad beer", "bad wine", "good beer"]),
        (DictVectorizer(), [{"a": 1, "b": "x"}, {"a": 2}, {"b": "y"}, {"c": 1.5}]),
    ],
)
def test_texts_and_objects_come_to_a_vectorizer_as_they_are(fitted, vectorizer, data):
    model = make_pipeline(vectorizer, LogisticRegression()).fit(data, [0, 1, 0, 1])

    assert fitted(model)(data) == model.predict(data).tolist()


def test_text_that_a_vectorizer_cannot_read_is_refused(fitted):
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(["good wine", "bad beer"], [0, 1])

    for data in ([[1, 2], [3, 4]], [1, 2], [{"text": "wine"}]):
        assert "the model does not take it" in fitted(model).refuses(data)
    assert "an array of 2 values" in fitted(model).refuses([[1, 2], [3]])


def refuse_for_fun(values):
    raise ValueError("a secret of the pipeline")


def test_a_step_of_the_users_own_that_raises_is_the_models_failure(fitted):
    model = make_pipeline(FunctionTransformer(), LinearRegression()).fit(X, Y)
    model.steps[0][1].func = refuse_for_fun

    with pytest.raises(ValueError, match="secret"):
        fitted(model)(ROWS)


def test_a_model_that_was_never_fit_is_no_mistake_of_the_caller(fitted):
    with pytest.raises(ValueError, match="not fitted"):
        fitted(KMeans(2))(ROWS)


# What the service says of itself


def test_the_schema_has_an_example_and_the_models_answer_to_it(fitted):
    model = LogisticRegression().fit(X, Y)

    schema = fitted(model).schema

    assert schema.is_input_declared
    assert schema.input == {
        "type": "object",
        "required": ["data"],
        "properties": {
            "data": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
            "method": {
                "type": "string",
                "enum": ["predict", "predict_proba", "predict_log_proba", "decision_function"],
            },
        },
        "example": {"data": [[0.0, 0.0, 0.0]], "method": "predict"},
    }
    assert schema.output == {"type": "array", "items": {"type": "integer"}, "example": [0]}


def test_an_example_that_the_model_refuses_is_not_shown(fitted):
    people = frame(age=[1, 2, 1, 2] * 5, city=["Bern", "Rome", "Bern", "Rome"] * 5)

    schema = fitted(make_pipeline(OneHotEncoder(), LogisticRegression()).fit(people, Y)).schema

    assert "example" not in schema.input
    assert list(schema.input["properties"]["data"]["items"]["properties"].items()) == [("age", {}), ("city", {})]
    assert schema.output == {}


def test_requests_can_be_joined_by_their_rows(fitted):
    service = fitted(LogisticRegression().fit(X, Y))

    assert service.script.batch_parameter == "data"
    assert service(ROWS[:1]) + service(ROWS[1:]) == service(ROWS)


# Finding the model


@pytest.mark.parametrize("framework", ["ScikitLearn", "scikitlearn", "SCIKITLEARN"])
def test_a_framework_is_known_in_any_case(fitted, framework):
    assert fitted(LinearRegression().fit(X, Y), framework)(ROWS)


def test_an_unknown_framework_is_refused_by_those_there_are(tmp_path):
    with pytest.raises(
        ScriptError, match="'Caffe'; there are ScikitLearn, Onnx, TensorFlow, LightGBM, XGBoost, PyTorch"
    ):
        nocode.load("Caffe", tmp_path)


@pytest.mark.parametrize("name", ["a.pkl", "a.joblib", "deep/down/a.pickle", "a.sav"])
def test_the_model_is_the_one_file_that_could_be_it(tmp_path, name):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(pickle.dumps(LinearRegression().fit(X, Y)))
    for other in ("README.md", "requirements.txt", "._a.pkl"):
        (tmp_path / other).touch()

    assert Service("ScikitLearn", tmp_path)(ROWS)


def test_a_folder_that_is_a_link_is_entered(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there/a.pkl").write_bytes(pickle.dumps(LinearRegression().fit(X, Y)))
    (tmp_path / "1").mkdir()
    (tmp_path / "1/model").symlink_to(tmp_path / "there")

    assert Service("ScikitLearn", tmp_path / "1")(ROWS)


@pytest.mark.parametrize(
    ("names", "there"),
    [
        ([], "nothing"),
        (["model.onnx", "x/y.txt"], "model.onnx, x/y.txt"),
        (["a.pkl", "b.joblib", "c"], "a.pkl, b.joblib"),
    ],
)
def test_none_or_several_files_are_refused_by_what_there_is(tmp_path, names, there):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    with pytest.raises(ScriptError) as error:
        nocode.load("ScikitLearn", tmp_path)

    assert "exactly one *.pkl or *.joblib or *.pickle or *.sav in " in str(error.value)
    assert str(error.value).endswith(f"there is {there}")


def test_what_is_no_model_is_refused(fitted):
    with pytest.raises(ScriptError, match="a dict has none of the methods predict, predict_proba"):
        fitted({"weights": [1, 2]})


@pytest.mark.parametrize(
    ("framework", "name", "module", "package"),
    [
        ("ScikitLearn", "m.pkl", "joblib", "scikit-learn"),
        ("ScikitLearn", "m.pkl", "sklearn.linear_model._base", "module sklearn.linear_model._base"),
        ("Onnx", "m.onnx", "onnxruntime", "onnxruntime"),
        ("TensorFlow", "saved_model.pb", "tensorflow", "tensorflow"),
        ("LightGBM", "m.txt", "lightgbm", "lightgbm"),
        ("XGBoost", "m.json", "xgboost", "xgboost"),
        ("PyTorch", "m.pt", "torch", "torch"),
        ("MLflow", "MLmodel", "mlflow", "mlflow"),
    ],
)
def test_a_library_that_is_missing_is_named(tmp_path, monkeypatch, framework, name, module, package):
    (tmp_path / name).write_bytes(pickle.dumps(LinearRegression()) if name == "m.pkl" else b"")
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(ScriptError, match=f"{package}.* add it"):
        nocode.load(framework, tmp_path)


# ONNX


def onnx_model(*, zipmap=True, model=None):
    skl2onnx = pytest.importorskip("skl2onnx")
    pytest.importorskip("onnxruntime")
    model = model or LogisticRegression().fit(X, Y)
    options = {} if zipmap else {"options": {"zipmap": False}}
    return skl2onnx.to_onnx(model, X[:1].astype(np.float32), target_opset=17, **options).SerializeToString()


def test_onnx_with_several_outputs_answers_by_name(tmp_path):
    (tmp_path / "m.onnx").write_bytes(onnx_model())
    model = LogisticRegression().fit(X, Y)

    answer = Service("Onnx", tmp_path)(ROWS)

    assert answer["output_label"] == model.predict(ROWS).tolist()
    chances = [[row["0"], row["1"]] for row in answer["output_probability"]]
    assert np.allclose(chances, model.predict_proba(ROWS), atol=1e-5)


def test_onnx_with_one_output_answers_with_it(tmp_path):
    model = LinearRegression().fit(X, Y)
    (tmp_path / "m.onnx").write_bytes(onnx_model(model=model))

    service = Service("Onnx", tmp_path)

    assert np.allclose(np.ravel(service(ROWS)), model.predict(ROWS), atol=1e-5)
    assert service({"X": ROWS}) == service(ROWS)
    assert service([[0, 1, 2]]) == service([[0.0, 1.0, 2.0]])
    assert service.schema.input["example"] == {"data": [[0.0, 0.0, 0.0]], "method": "predict"}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([[1, 2]], "$.data: expected an array of float32 of shape any x 3, got int64 of shape 1 x 2"),
        ([1, 2, 3], "of shape any x 3, got int64 of shape 3"),
        ([[1, 2, 3], [1, 2]], "expected an array of float32 of shape any x 3, got setting an array element"),
        ([[1, 2, "x"]], "expected an array of float32 of shape any x 3, got "),
        ([], "of shape any x 3, got float64 of shape 0"),
        (None, "expected an array of float32 of shape any x 3"),
        ("abc", "expected an array of float32 of shape any x 3"),
        ({"Y": [[1, 2, 3]]}, "$.data: expected an object with X, got Y"),
        ({"X": [[1, 2]]}, "$.data.X: expected an array of float32 of shape any x 3, got int64 of shape 1 x 2"),
    ],
)
def test_onnx_refuses_what_is_not_of_its_signature(tmp_path, data, said):
    (tmp_path / "m.onnx").write_bytes(onnx_model())

    assert said in Service("Onnx", tmp_path).refuses(data)


def graph(tmp_path, nodes, inputs, outputs):
    """An ONNX model made by hand: inputs and outputs are name -> (element type, shape)."""
    helper = pytest.importorskip("onnx.helper")
    pytest.importorskip("onnxruntime")
    kinds = pytest.importorskip("onnx").TensorProto

    def declared(values):
        return [
            helper.make_tensor_value_info(name, getattr(kinds, kind), shape) for name, (kind, shape) in values.items()
        ]

    made = [helper.make_node(kind, list(taken), [given]) for kind, taken, given in nodes]
    whole = helper.make_graph(made, "g", declared(inputs), declared(outputs))
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    return Service("Onnx", tmp_path)


def test_onnx_with_several_inputs_takes_them_by_name(tmp_path):
    service = graph(
        tmp_path,
        [("Identity", ["words"], "same"), ("Add", ["a", "b"], "sum")],
        {"words": ("STRING", ["n"]), "a": ("INT64", ["n", 2]), "b": ("INT64", [None, 2])},
        {"same": ("STRING", ["n"]), "sum": ("INT64", ["n", 2])},
    )

    good = {"words": ["x", "y"], "a": [[1, 2], [3, 4]], "b": [[1.0, 0.0], [0, 1]]}

    assert service(good) == {"same": ["x", "y"], "sum": [[2, 2], [3, 5]]}
    assert service.refuses([[1, 2]]) == "$.data: expected an object with words, a, b, got an array of 1"
    assert service.refuses({**good, "c": 1}).endswith("expected an object with words, a, b, got words, a, b, c")
    assert "$.data.words: expected an array of strings of shape any" in service.refuses({**good, "words": ["x", 1]})
    for whole in ([[1.5, 2]], [["1", "2"]], [[None, 2]], [[2**70, 1]]):
        assert "$.data.a: expected an array of int64 of shape any x 2" in service.refuses({**good, "a": whole})
    assert "the model does not take it" in service.refuses({**good, "b": [[1, 2], [3, 4], [5, 6]]})
    assert service.schema.input["example"]["data"] == {"words": [""], "a": [[0, 0]], "b": [[0, 0]]}


def test_onnx_loses_nothing_of_whole_numbers(tmp_path):
    service = graph(tmp_path, [("Identity", ["x"], "y")], {"x": ("UINT8", ["n"])}, {"y": ("UINT8", ["n"])})

    assert service([0, 255, 7.0]) == [0, 255, 7]
    assert "an array of uint8" in service.refuses([256]) + service.refuses([-1]) + service.refuses([0.5])


# Boosters


@pytest.mark.parametrize("name", ["m.txt", "m.model", "m.lgb"])
def test_a_booster_of_lightgbm_predicts(tmp_path, name):
    lightgbm = pytest.importorskip("lightgbm")
    settings = {"objective": "binary", "min_data_in_leaf": 1, "verbose": -1}
    data = lightgbm.Dataset(X, Y, feature_name=["a", "b", "c"])
    booster = lightgbm.train(settings, data, 3)
    booster.save_model(str(tmp_path / name))

    service = Service("LightGBM", tmp_path)

    assert np.allclose(service(ROWS), booster.predict(X[:3]))
    assert service([{"c": 2, "a": 0, "b": 1}]) == service([[0, 1, 2]])
    assert service([[1, None, 3]])
    assert "an array of 3 values or an object with a, b, c" in service.refuses([[1, 2]])
    assert "could not convert string to float" in service.refuses([[1, 2, "x"]])
    assert service.refuses(ROWS, method="predict_proba").startswith("$.method: expected predict, got")


def test_an_estimator_of_lightgbm_has_its_methods(fitted):
    lightgbm = pytest.importorskip("lightgbm")
    model = lightgbm.LGBMClassifier(n_estimators=3, min_child_samples=1, verbose=-1).fit(X, Y)

    service = fitted(model, "LightGBM")

    assert np.allclose(service(ROWS, method="predict_proba"), model.predict_proba(X[:3]))
    assert "3 values" in service.refuses([[1, 2]])


@pytest.mark.parametrize("name", ["m.json", "m.ubj"])
def test_a_booster_of_xgboost_predicts(tmp_path, name):
    xgboost = pytest.importorskip("xgboost")
    data = xgboost.DMatrix(X, Y, feature_names=["a", "b", "c"])
    booster = xgboost.train({"objective": "binary:logistic"}, data, 3)
    booster.save_model(tmp_path / name)

    service = Service("XGBoost", tmp_path)

    assert np.allclose(service(ROWS), booster.predict(data)[:3])
    assert service([{"c": 2, "a": 0, "b": 1}]) == service([[0, 1, 2]])
    assert service([[1, None, 3]])
    assert "an array of 3 values or an object with a, b, c" in service.refuses([[1, 2]])
    assert "the model does not take it" in service.refuses([[1, 2, "x"]])
    assert "inf" in service.refuses([[1, 2, 1e999]])


@pytest.mark.parametrize("kind", ["XGBClassifier", "XGBRegressor"])
def test_a_file_that_an_estimator_of_xgboost_saved_is_that_estimator(tmp_path, kind):
    model = getattr(pytest.importorskip("xgboost"), kind)(n_estimators=3).fit(X, Y)
    model.save_model(tmp_path / "m.json")

    service = Service("XGBoost", tmp_path)

    assert np.allclose(service(ROWS), model.predict(X[:3]))
    assert ("predict_proba" in service.schema.input["properties"]["method"]["enum"]) == (kind == "XGBClassifier")


def test_a_pickled_estimator_of_xgboost_has_its_methods(fitted):
    model = pytest.importorskip("xgboost").XGBClassifier(n_estimators=3).fit(X, Y)

    assert np.allclose(fitted(model, "XGBoost")(ROWS, method="predict_proba"), model.predict_proba(X[:3]))


@pytest.mark.parametrize(("framework", "kind"), [("LightGBM", "LGBMClassifier"), ("XGBoost", "XGBClassifier")])
def test_an_estimator_that_was_fit_on_a_frame_takes_a_row_of_nulls(fitted, framework, kind):
    model = getattr(pytest.importorskip(framework.lower()), kind)(n_estimators=3)

    service = fitted(model.fit(frame(a=X[:, 0], b=X[:, 1]), Y), framework)

    assert service([{"a": None, "b": None}]) == service([[None, None]])
    assert "could not convert string to float" in service.refuses([["x", 1]])


# TorchScript


def test_torchscript_predicts_by_forward(tmp_path):
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(3, 2)
    torch.jit.script(model).save(tmp_path / "m.pt")

    service = Service("PyTorch", tmp_path)

    assert np.allclose(service(ROWS), model(torch.tensor(ROWS)).tolist())
    assert service([[0, 1, 2]]) == service([[0.0, 1.0, 2.0]])
    assert service({"input": ROWS}) == service(ROWS)
    assert service.refuses([[1, 2]]) == (
        "$.data: the model does not take it: RuntimeError: mat1 and mat2 shapes cannot be multiplied (1x2 and 3x2)"
    )
    assert "expected an array of numbers" in service.refuses([["x"]]) + service.refuses([[1, 2], [3]])
    assert service.schema.input["properties"]["data"] == {}


def test_torchscript_looks_up_whole_numbers_and_answers_with_all_outputs(tmp_path):
    torch = pytest.importorskip("torch")

    class Words(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.words = torch.nn.Embedding.from_pretrained(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))

        def forward(self, ids):
            return self.words(ids), ids.double() / 2

    torch.jit.trace(Words(), torch.tensor([[0]])).save(tmp_path / "m.pth")

    service = Service("PyTorch", tmp_path)

    assert service([[1, 0]]) == [[[[3.0, 4.0], [1.0, 2.0]]], [[0.5, 0.0]]]
    assert service.refuses([[7]]) == "$.data: the model does not take it: RuntimeError: index out of range in self"


def test_torchscript_with_several_inputs_takes_them_by_name(tmp_path):
    torch = pytest.importorskip("torch")

    class Sum(torch.nn.Module):
        def forward(self, left, right, scale: float = 2.0) -> dict[str, torch.Tensor]:
            return {"sum": (left + right) * scale}

    torch.jit.script(Sum()).save(tmp_path / "m.pt")

    service = Service("PyTorch", tmp_path)

    assert service({"right": [1], "left": [2]}) == {"sum": [6.0]}
    assert service.refuses([1]) == "$.data: expected an object with left, right, got an array of 1"


def test_torchscript_that_raises_by_itself_has_refused_its_input(tmp_path):
    torch = pytest.importorskip("torch")

    class Single(torch.nn.Module):
        def forward(self, rows):
            if rows.shape[0] > 1:
                raise ValueError("one row at a time")
            return rows

    torch.jit.freeze(torch.jit.script(Single().eval())).save(tmp_path / "m.pt")

    service = Service("PyTorch", tmp_path)

    assert service([[1, 2]]) == [[1.0, 2.0]]
    assert service.refuses([[1], [2]]).endswith("the model does not take it: builtins.ValueError: one row at a time")


def test_weights_without_their_model_are_refused_by_how_to_save_it(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.Linear(3, 2).state_dict(), tmp_path / "m.pt")

    with pytest.raises(ScriptError, match=r"m.pt is not TorchScript, save the model with torch.jit.script"):
        nocode.load("PyTorch", tmp_path)


# TensorFlow


@pytest.fixture(scope="session")
def keras():
    return pytest.importorskip("tensorflow").keras


@pytest.fixture(params=["m.keras", "m.h5", "saved model"])
def dense(request, keras, tmp_path):
    """A Keras model of one input and one output, and its service by each way to save it."""
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)])
    if request.param == "saved model":
        model.export(tmp_path / "m")
    else:
        model.save(tmp_path / request.param)
    return model, Service("TensorFlow", tmp_path)


def test_tensorflow_predicts(dense):
    model, service = dense

    assert np.allclose(service(ROWS), model.predict_on_batch(X[:3]), atol=1e-5)
    assert service([[0, 1, 2]]) == service([[0.0, 1.0, 2.0]])
    refused = "$.data: expected an array of float32 of shape any x 3, got int64 of shape 1 x 2"
    assert service.refuses([[1, 2]]) == refused
    assert service.schema.input["example"] == {"data": [[0.0, 0.0, 0.0]], "method": "predict"}


@pytest.mark.parametrize("name", ["m.keras", "saved model"])
def test_tensorflow_with_several_inputs_and_outputs_has_them_by_name(keras, tmp_path, name):
    a, ids = keras.Input((2,), name="a"), keras.Input((1,), name="ids", dtype="int32")
    found = keras.layers.Flatten(name="found")(keras.layers.Embedding(5, 2)(ids))
    model = keras.Model([a, ids], [keras.layers.Dense(1, name="x")(a), found])
    model.export(tmp_path / "m") if name == "saved model" else model.save(tmp_path / name)

    service = Service("TensorFlow", tmp_path)

    answer = service({"ids": [[4]], "a": [[1, 2]]})
    assert [len(values) for values in answer.values()] == [1, 1]
    assert "an object with a, ids" in service.refuses([[1, 2]])
    assert "$.data.ids: expected an array of int32" in service.refuses({"a": [[1, 2]], "ids": [[0.5]]})
    assert "the model does not take it" in service.refuses({"a": [[1, 2]], "ids": [[77]]})


def test_tensorflow_takes_and_gives_text(keras, tmp_path):
    tf = pytest.importorskip("tensorflow")

    class Shout(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
        def shout(self, text):
            return {"loud": tf.strings.upper(text, "utf-8")}

    model = Shout()
    tf.saved_model.save(model, str(tmp_path / "m"), signatures=model.shout)

    assert Service("TensorFlow", tmp_path)(["Zürich"]) == ["ZÜRICH"]


def test_a_saved_model_without_a_signature_is_refused(keras, tmp_path):
    tf = pytest.importorskip("tensorflow")
    tf.saved_model.save(tf.Module(), str(tmp_path))

    with pytest.raises(ScriptError, match="serving_default, it has none"):
        nocode.load("TensorFlow", tmp_path)


# MLflow


MLMODEL = """\
flavors:
  python_function:
    env:
      conda: conda.yaml
    {key}: {file}
    loader_module: mlflow.{flavour}
    python_version: 3.11.7
  {flavour}:
    code: null
mlflow_version: 2.9.2
"""


def mlmodel(folder, flavour, file):
    key = "model_path" if flavour == "sklearn" else "data"
    (folder / "MLmodel").write_text(MLMODEL.format(flavour=flavour, key=key, file=file))
    (folder / "requirements.txt").touch()


def test_without_mlflow_a_model_is_served_by_its_flavours_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    model = LogisticRegression().fit(X, Y)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(model))
    mlmodel(tmp_path, "sklearn", "model.pkl")

    assert np.allclose(Service("MLflow", tmp_path)(ROWS, method="predict_proba"), model.predict_proba(X[:3]))


@pytest.mark.parametrize("flavour", ["lightgbm", "xgboost", "onnx"])
def test_without_mlflow_the_other_flavours_are_served_too(tmp_path, monkeypatch, flavour):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    library = pytest.importorskip({"onnx": "onnxruntime"}.get(flavour, flavour))
    file = {"lightgbm": "model.lgb", "xgboost": "model.xgb", "onnx": "model.onnx"}[flavour]
    if flavour == "lightgbm":
        library.train({"verbose": -1, "min_data_in_leaf": 1}, library.Dataset(X, Y), 2).save_model(tmp_path / file)
    elif flavour == "xgboost":
        library.train({}, library.DMatrix(X, Y), 2).save_model(tmp_path / "model.ubj")
        (tmp_path / "model.ubj").rename(tmp_path / file)
    else:
        (tmp_path / file).write_bytes(onnx_model(model=LinearRegression().fit(X, Y)))
    mlmodel(tmp_path, flavour, file)

    assert len(Service("MLflow", tmp_path)(ROWS)) == 3


@pytest.mark.parametrize(("flavour", "file"), [("prophet", "model.pr"), ("sklearn", "model.skops")])
def test_a_flavour_that_only_mlflow_can_read_asks_for_it(tmp_path, monkeypatch, flavour, file):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    mlmodel(tmp_path, flavour, file)

    with pytest.raises(ScriptError, match="needs the package mlflow: add it to the environment"):
        nocode.load("MLflow", tmp_path)


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """saved(model, example): the service of a model that MLflow saved, with the signature of that example if any."""
    mlflow = pytest.importorskip("mlflow")
    flavour = pytest.importorskip("mlflow.sklearn")
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")

    def save(model, example=None):
        signature = None if example is None else mlflow.models.infer_signature(example, model.predict(example))
        kind = {"serialization_format": "cloudpickle"}
        flavour.save_model(model, tmp_path / "m", signature=signature, pip_requirements=["scikit-learn"], **kind)
        return Service("MLflow", tmp_path)

    return save


def test_mlflow_keeps_to_the_columns_of_the_signature(saved):
    table = frame(a=X[:, 0], b=X[:, 1], c=X[:, 2])
    model = LogisticRegression().fit(table, Y)

    service = saved(model, table)

    assert service(ROWS) == model.predict(table[:3]).tolist()
    assert service([{"c": 2, "b": 1, "a": 0}]) == service([[0, 1, 2]])
    assert np.allclose(service(ROWS, method="predict_proba"), model.predict_proba(table[:3]))
    for data in ([[1, 2]], [{"a": 1}], [[1, 2, "x"]], [], 5, {"a": 1}):
        assert "the model does not take it" in service.refuses(data)
    assert service.schema.input["example"]["data"] == [{"a": 0.0, "b": 0.0, "c": 0.0}]


def test_mlflow_keeps_to_the_array_of_the_signature(saved):
    model = LogisticRegression().fit(X, Y)

    service = saved(model, X)

    assert service(ROWS) == model.predict(ROWS).tolist()
    assert service([[0, 1, 2]]) == model.predict([[0, 1, 2]]).tolist()
    assert np.allclose(service(ROWS, method="predict_proba"), model.predict_proba(ROWS))
    assert service.refuses([[1, 2]]).startswith("$.data: expected an array of float64 of shape any x 3")


def test_mlflow_without_a_signature_takes_what_the_model_was_fit_on(saved):
    model = LogisticRegression().fit(X, Y)

    service = saved(model)

    assert service(ROWS) == model.predict(ROWS).tolist()
    assert "an array of 3 values" in service.refuses([[1, 2]])


# Over HTTP


@pytest.fixture(scope="module")
def http(serve, tmp_path_factory):
    """http(model): a server of a pickled model, without an entry script."""

    def start(model, framework="scikitlearn"):
        root = tmp_path_factory.mktemp("app")
        folder = root / "azureml-models/m/1"
        folder.mkdir(parents=True)
        (folder / "model.pkl").write_bytes(pickle.dumps(model))
        return serve("", app_root=root, AZUREML_ENTRY_SCRIPT="", KEELWAY_NO_CODE=framework)

    return start


@pytest.fixture(scope="module")
def classifier(http):
    return http(LogisticRegression().fit(X, Y)).wait_ready()


def test_a_model_is_served_over_http(classifier):
    model = LogisticRegression().fit(X, Y)

    assert classifier.score({"data": ROWS}).json() == model.predict(ROWS).tolist()
    chances = classifier.score({"data": ROWS, "method": "predict_proba"}).json()
    assert np.allclose(chances, model.predict_proba(ROWS))
    assert classifier.get("/score?data=[[0,1,2]]&method=predict").json() == [0]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"data": [[1, 2]]}, "$.data[0]: expected an array of 3 values, got an array of 2"),
        ({"rows": ROWS}, "$.data: expected a value for this parameter, it is missing"),
        (ROWS, "$: expected an object with a member for each parameter, got an array of 3"),
    ],
)
def test_a_callers_mistake_is_a_400_and_no_failure_of_the_model(classifier, body, said):
    response = classifier.score(body)

    assert response.status == 400
    assert response.json()["message"] == said
    assert response.headers["x-ms-run-function-failed"] == "False"


@pytest.mark.parametrize("version", ["2", "3.0", "3.1"])
def test_the_document_is_valid_and_its_example_is_scored(classifier, version):
    validate = pytest.importorskip("openapi_spec_validator").validate

    document = classifier.get(f"/swagger.json?version={version}").json()

    validate(document)
    schemas = document["definitions"] if version == "2" else document["components"]["schemas"]
    assert classifier.score(schemas["ServiceInput"]["example"]).json() == schemas["ServiceOutput"]["example"]


def test_a_models_own_failure_is_a_500_without_detail(http):
    server = http(KMeans(2)).wait_ready()

    response = server.score({"data": ROWS})

    assert response.status == 500
    assert "fitted" not in response.json()["message"]
    assert "NotFittedError" in server.output


def test_a_model_that_cannot_be_served_ends_the_process_with_3(http):
    server = http({"no": "model"})

    assert server.wait_exit() == 3
    assert "a dict has none of the methods" in server.output
    assert "model.pkl" in server.output.split("Model directory:")[1]
