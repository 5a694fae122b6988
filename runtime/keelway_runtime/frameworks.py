"""Models as their own libraries load them, and the JSON that each takes as `data`.

A library is imported only for a model that needs it. What a caller got wrong is found before the model runs wherever
the model tells what it takes; the exceptions by which its library refuses the rest are named with it.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterable, Mapping, NamedTuple

from keelway_runtime.conversion import described
from keelway_runtime.refusal import BadInput
from keelway_runtime.script import ScriptError

METHODS = ("predict", "predict_proba", "predict_log_proba", "decision_function", "score_samples", "transform")
PICKLES = (".pkl", ".joblib", ".pickle", ".sav")
EXAMPLE_VALUES_MAX = 1000


@dataclass(frozen=True)
class Model:
    """`prepared` makes of `data` what each of `methods` takes, or raises BadInput; `refusals` are the library's own."""

    prepared: Callable[[Any], Any]
    methods: Mapping[str, Callable[[Any], Any]]
    example: Any = None
    refusals: tuple[type[Exception], ...] = (ValueError, TypeError)
    is_by_rows: bool = False


class Rows:
    """A table: each row an array, or an object where the columns have names."""

    def __init__(self, width: int | None, names: Iterable[Any] | None, frame: Callable[..., Any] | None = None) -> None:
        self._width = width
        self._names = [] if names is None else [str(name) for name in names]
        self._named = f"an object with {', '.join(self._names[:30])}"
        self._frame = frame if self._names else None
        self.example = [dict.fromkeys(self._names, 0.0)] if self._names else [[0.0] * width] if width else None

    def __call__(self, data: Any) -> Any:
        """A frame if the model was fit on one, else an array of numbers, or of objects where there is text."""
        if not isinstance(data, list) or not data:
            raise BadInput("$.data", "an array of at least one row", described(data))
        if self._width is None and not isinstance(data[0], list):
            return data  # texts or objects, for a vectorizer
        width = len(data[0]) if self._width is None else self._width
        rows = [self._row(row, index, width) for index, row in enumerate(data)]
        return self._frame(rows, columns=self._names) if self._frame else _matrix(rows)

    def _row(self, row: Any, index: int, width: int) -> list[Any]:
        if isinstance(row, dict) and self._names:
            if row.keys() != set(self._names):
                raise BadInput(f"$.data[{index}]", self._named, ", ".join(row) or "none")
            return [row[name] for name in self._names]
        if not isinstance(row, list) or len(row) != width:
            expected = f"an array of {width} values" + (f" or {self._named}" if self._names else "")
            raise BadInput(f"$.data[{index}]", expected, described(row))
        return row


def _matrix(rows: list[list[Any]]) -> Any:
    import numpy  # noqa: PLC0415 - the model has it

    try:
        array = numpy.array(rows)
    except ValueError:  # ragged, below the rows
        array = None
    if array is None or array.ndim != 2:
        cells = ((i, j, cell) for i, row in enumerate(rows) for j, cell in enumerate(row) if isinstance(cell, list))
        i, j, cell = next(cells)
        raise BadInput(f"$.data[{i}][{j}]", "one value", described(cell))
    if array.dtype.kind == "O":  # null is a missing number
        rows = [[math.nan if cell is None else cell for cell in row] for row in rows]
        array = numpy.array(rows)
    return array if array.dtype.kind in "biuf" else numpy.array(rows, dtype=object)


class Tensor(NamedTuple):
    """One input as the model declares it: None for what it leaves open, None or a name for a free axis."""

    dtype: Any = None
    shape: tuple[Any, ...] | None = None

    def array(self, value: Any, path: str) -> Any:
        """The nested arrays as an array of exactly these values. Raises BadInput."""
        import numpy  # noqa: PLC0415 - the model has it

        kind = "numbers" if self.dtype is None else "strings" if self._is_text else numpy.dtype(self.dtype).name
        expected = f"an array of {kind}" + ("" if self.shape is None else f" of shape {_shape(self.shape)}")
        try:
            given = numpy.array(value, dtype=object if self._is_text else None)
            array = given if self.dtype is None else given.astype(self.dtype)
        except (TypeError, ValueError, OverflowError) as error:
            raise BadInput(path, expected, in_short(error)) from None
        if not self._is_same(given, array) or not self._fits(array.shape):
            raise BadInput(path, expected, f"{given.dtype} of shape {_shape(given.shape)}")
        return array

    def example(self) -> Any:
        """The smallest value of this shape, None if that is not known or would not be small."""
        import numpy  # noqa: PLC0415 - the model has it

        sizes = [size if isinstance(size, int) else 1 for size in self.shape or ()]
        if self.shape is None or math.prod(sizes) > EXAMPLE_VALUES_MAX:
            return None
        return numpy.full(sizes, "" if self._is_text else 0, self.dtype).tolist()

    @property
    def _is_text(self) -> bool:
        return self.dtype in (object, "object")

    def _is_same(self, given: Any, array: Any) -> bool:
        """Whether nothing was lost: 1.0 is a uint8, 1.5 and 300 are none. A float may lose digits, and null is NaN."""
        if self._is_text:
            return all(isinstance(text, str) for text in array.flat)
        if array.dtype.kind == "f":
            return given.dtype.kind in "biufO"
        return given.dtype.kind in "biuf" and bool((array == given).all())

    def _fits(self, shape: tuple[int, ...]) -> bool:
        if self.shape is None or len(self.shape) != len(shape):
            return self.shape is None
        return all(not isinstance(self.shape[axis], int) or self.shape[axis] == size for axis, size in enumerate(shape))


def _shape(shape: Iterable[Any]) -> str:
    return " x ".join(str(size) if isinstance(size, int) else "any" for size in shape) or "()"


def _graph(inputs: dict[str, Tensor], predict: Callable[..., Any], *refusals: type[Exception]) -> Model:
    """A model of tensors; `predict` gets them by name."""
    names = ", ".join(inputs)

    def prepared(data: Any) -> dict[str, Any]:
        if isinstance(data, dict) and data.keys() == inputs.keys():
            return {name: tensor.array(data[name], f"$.data.{name}") for name, tensor in inputs.items()}
        if len(inputs) > 1 or isinstance(data, dict):
            got = ", ".join(data) if isinstance(data, dict) else described(data)
            raise BadInput("$.data", f"an object with {names}", got)
        return {name: tensor.array(data, "$.data") for name, tensor in inputs.items()}

    examples = {name: tensor.example() for name, tensor in inputs.items()}
    whole = next(iter(examples.values())) if len(examples) == 1 else examples
    return Model(prepared, {"predict": predict}, None if None in examples.values() else whole, refusals)


def _sole_or_named(names: Iterable[str], outputs: Any) -> Any:
    return outputs[0] if len(outputs) == 1 else dict(zip(names, outputs))


def in_short(error: Exception) -> str:
    """A library's message on one line; of a traceback that TorchScript puts there, what it ends with."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return (lines[-1] if any(line.startswith("Traceback") for line in lines) else " ".join(lines))[:300]


def _library(module: str, package: str = "") -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = package if package and error.name == module else error.name
        raise ScriptError(f"this model needs the package {missing}: add it to the environment") from error


def _unpickled(path: Path) -> Any:
    joblib = _library("joblib", "scikit-learn")
    try:
        return joblib.load(path)
    except ModuleNotFoundError as error:
        name = "scikit-learn" if error.name == "sklearn" else error.name
        raise ScriptError(f"{path.name} needs the module {name}: add its package to the environment") from error


def _fitted(model: Any) -> Model:
    """An estimator with scikit-learn's methods, or a booster of LightGBM or XGBoost."""
    refusals: tuple[type[Exception], ...] = (ValueError, TypeError)
    if hasattr(model, "num_feature"):
        rows, methods = Rows(model.num_feature(), model.feature_name()), {"predict": model.predict}
    elif hasattr(model, "inplace_predict"):
        rows, methods = Rows(model.num_features(), model.feature_names), {"predict": lambda a: _boosted(model, a)}
    else:
        width, names = getattr(model, "n_features_in_", None), getattr(model, "feature_names_in_", None)
        rows = Rows(width, names, _frame(model))
        methods = {name: getattr(model, name) for name in METHODS if callable(getattr(model, name, None))}
        if width is None:
            refusals += (AttributeError,)  # what a vectorizer says of numbers: they have no lower()
    if not methods:
        raise ScriptError(f"a {type(model).__name__} has none of the methods {', '.join(METHODS)}")
    return Model(rows, methods, rows.example, refusals, is_by_rows=True)


def _frame(model: Any) -> Callable[..., Any] | None:
    """What makes a frame for this estimator; None without pandas: the columns' order is then all there is."""
    if importlib.util.find_spec("pandas") is None:
        return None
    # A column of nulls alone is one of objects, which a pipeline's encoders expect, but boosters refuse.
    is_booster = type(model).__module__.startswith(("lightgbm", "xgboost"))
    return functools.partial(importlib.import_module("pandas").DataFrame, dtype=float if is_booster else None)


def _boosted(booster: Any, array: Any) -> Any:
    matrix = importlib.import_module("xgboost").DMatrix(array, feature_names=booster.feature_names)
    return booster.predict(matrix)


def _scikit_learn(path: Path) -> Model:
    return _fitted(_unpickled(path))


def _lightgbm(path: Path) -> Model:
    library = _library("lightgbm")
    return _fitted(_unpickled(path) if path.suffix in PICKLES else library.Booster(model_file=str(path)))


def _xgboost(path: Path) -> Model:
    library = _library("xgboost")
    if path.suffix in PICKLES:
        return _fitted(_unpickled(path))
    booster = library.Booster(model_file=str(path))
    # An estimator notes in the file what it was: its predict() gives classes where the booster's gives scores.
    kind = json.loads(booster.attr("scikit_learn") or "{}").get("_estimator_type")
    if kind not in ("classifier", "regressor"):
        return _fitted(booster)
    _library("sklearn", "scikit-learn")
    estimator = library.XGBClassifier() if kind == "classifier" else library.XGBRegressor()
    estimator.load_model(str(path))
    return _fitted(estimator)


def _onnx(path: Path) -> Model:
    library = _library("onnxruntime")
    session = library.InferenceSession(str(path), providers=library.get_available_providers())
    inputs = {part.name: Tensor(_onnx_dtype(part), tuple(part.shape) or None) for part in session.get_inputs()}
    names = [output.name for output in session.get_outputs()]
    errors = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    refusals = (errors.InvalidArgument, errors.RuntimeException, errors.Fail)
    return _graph(inputs, lambda arrays: _sole_or_named(names, session.run(None, arrays)), *refusals)


def _onnx_dtype(declared: Any) -> str:
    kind = re.fullmatch(r"tensor\((\w+)\)", declared.type)
    if not kind:
        raise ScriptError(f"the input {declared.name} is {declared.type}: only tensors can be given as JSON")
    return {"float": "float32", "double": "float64", "string": "object"}.get(kind[1], kind[1])


def _torch(path: Path) -> Model:
    library = _library("torch")
    try:
        model = library.jit.load(str(path), map_location="cpu").eval()
    except RuntimeError as error:
        how = "save the model with torch.jit.script(model).save(path)"
        raise ScriptError(f"{path.name} is not TorchScript, {how}: {in_short(error)}") from error
    arguments = [argument for argument in model.forward.schema.arguments[1:] if not argument.has_default_value()]
    others = [f"{argument.name}: {argument.type}" for argument in arguments if str(argument.type) != "Tensor"]
    if others:
        raise ScriptError(f"forward() takes {', '.join(others)}: only tensors can be given as JSON")
    # TorchScript does not say what numbers it takes: those of its weights, but whole ones where it looks things up.
    dtype = next((weight.dtype for weight in model.parameters() if weight.is_floating_point()), library.float32)
    is_lookup = any(module.original_name.startswith("Embedding") for module in model.modules())

    def tensor(array: Any) -> Any:
        return library.from_numpy(array).to(library.int64 if is_lookup and array.dtype.kind in "iu" else dtype)

    def predict(arrays: Mapping[str, Any]) -> Any:
        with library.inference_mode():
            return model(*map(tensor, arrays.values()))

    refusals = (RuntimeError, IndexError, library.jit.Error)
    return _graph({argument.name: Tensor() for argument in arguments}, predict, *refusals)


def _tensorflow(path: Path) -> Model:
    library = _library("tensorflow")
    refusals = (ValueError, TypeError, library.errors.InvalidArgumentError)
    if path.name != "saved_model.pb":
        return _keras(library.keras.models.load_model(str(path), compile=False), refusals)
    loaded = library.saved_model.load(str(path.parent))
    if "serving_default" not in loaded.signatures:
        there = ", ".join(loaded.signatures) or "none"
        raise ScriptError(f"the SavedModel must have the signature serving_default, it has {there}")
    declared = loaded.signatures["serving_default"].structured_input_signature[1]

    def predict(arrays: Mapping[str, Any]) -> Any:
        tensors = {name: library.constant(array, declared[name].dtype) for name, array in arrays.items()}
        outputs = loaded.signatures["serving_default"](**tensors)  # it needs `loaded` to live: its variables are there
        return _sole_or_named(sorted(outputs), [_plain(outputs[name]) for name in sorted(outputs)])

    return _graph({name: _tensor(declared[name]) for name in sorted(declared)}, predict, *refusals)


def _keras(model: Any, refusals: tuple[type[Exception], ...]) -> Model:
    def predict(arrays: Mapping[str, Any]) -> Any:
        outputs = model.predict_on_batch(list(arrays.values()) if len(arrays) > 1 else next(iter(arrays.values())))
        return _sole_or_named(model.output_names, outputs) if isinstance(outputs, list) else outputs

    dtypes = {"string": object}
    inputs = {part.name: Tensor(dtypes.get(part.dtype, part.dtype), tuple(part.shape)) for part in model.inputs}
    return _graph(inputs, predict, *refusals)


def _tensor(declared: Any) -> Tensor:
    return Tensor(declared.dtype.as_numpy_dtype, None if declared.shape.rank is None else tuple(declared.shape))


def _plain(output: Any) -> Any:
    """The tensor's values; TensorFlow's strings are bytes, which would reach the caller as base64."""
    import numpy  # noqa: PLC0415 - the model has it

    values = output.numpy()
    is_text = output.dtype.name == "string"
    return numpy.char.decode(numpy.asarray(values, "S"), "utf-8", "replace") if is_text else values


def _mlflow(path: Path) -> Model:
    """By MLflow where it is installed, which then keeps to the model's signature; else by the flavour's own library."""
    if importlib.util.find_spec("mlflow") is None:
        return _flavour(path)
    model = importlib.import_module("mlflow.pyfunc").load_model(str(path.parent))
    try:
        fitted = _fitted(model.get_raw_model())
    except (AttributeError, NotImplementedError, ScriptError):  # it is no table's, or MLflow is older
        fitted = Model(Rows(None, None), {})
    schema = model.metadata.get_input_schema()
    prepared, example = _signed(schema) if schema else (fitted.prepared, fitted.example)
    refusals = (*fitted.refusals, importlib.import_module("mlflow.exceptions").MlflowException)
    return Model(prepared, {**fitted.methods, "predict": model.predict}, example, refusals)


def _signed(schema: Any) -> tuple[Callable[[Any], Any], Any]:
    """How data becomes what a signature of MLflow demands, and an example of it."""
    if schema.is_tensor_spec():
        shapes = [tuple(None if size < 0 else size for size in part.shape) for part in schema.inputs]
        tensors = [Tensor(part.type, shape) for part, shape in zip(schema.inputs, shapes)]
        if not schema.has_input_names():
            return lambda data: tensors[0].array(data, "$.data"), tensors[0].example()
        graph = _graph(dict(zip(schema.input_names(), tensors)), lambda arrays: arrays)
        return graph.prepared, graph.example
    parsed = importlib.import_module("mlflow.utils.proto_json_utils").dataframe_from_parsed_json
    names = schema.input_names() if schema.has_input_names() else None

    def prepared(data: Any) -> Any:
        if isinstance(data, list) and all(isinstance(row, dict) for row in data):
            return parsed(data, "records", schema)
        return parsed({"columns": names, "data": data}, "split", schema)

    zeros = ["" if getattr(kind, "name", "") == "string" else 0.0 for kind in schema.input_types()]
    return prepared, [dict(zip(names, zeros)) if names else zeros]


def _flavour(path: Path) -> Model:
    # Two keys out of a file that is always laid out like this; a YAML parser would be a dependency.
    text = path.read_text("utf-8")
    flavour = re.search(r"^    loader_module: mlflow\.(\w+)$", text, re.MULTILINE)
    file = re.search(r"^    (?:model_path|data): (\S+)$", text, re.MULTILINE)
    loaders = {"sklearn": _scikit_learn, "lightgbm": _lightgbm, "xgboost": _xgboost, "onnx": _onnx}
    if not flavour or not file or flavour[1] not in loaders or file[1].endswith(".skops"):
        raise ScriptError(f"{path.name} describes a model that needs the package mlflow: add it to the environment")
    return loaders[flavour[1]](path.parent / file[1])


FRAMEWORKS: dict[str, tuple[tuple[str, ...], Callable[[Path], Model]]] = {
    "ScikitLearn": (PICKLES, _scikit_learn),
    "Onnx": ((".onnx",), _onnx),
    "TensorFlow": (("saved_model.pb", ".keras", ".h5"), _tensorflow),
    "LightGBM": ((".txt", ".model", ".lgb", *PICKLES), _lightgbm),
    "XGBoost": ((".json", ".ubj", ".bst", ".model", ".xgb", *PICKLES), _xgboost),
    "PyTorch": ((".pt", ".pth"), _torch),
    "MLflow": (("MLmodel",), _mlflow),
}
