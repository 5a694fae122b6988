"""Scores incomes from a table, in the form that Power BI sends: one object a row, keyed by column.

The imports are those of scripts written years ago; the runtime supplies what newer libraries dropped.
"""

import azureml.train.automl  # noqa: F401 - models trained by AutoML need it to unpickle
import numpy as np
import pandas as pd
from azureml.core.model import Model
from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
from inference_schema.parameter_types.pandas_parameter_type import PandasParameterType
from inference_schema.schema_decorators import input_schema, output_schema
from sklearn.externals import joblib

PERSON = pd.DataFrame([{"age": 38, "workclass": "Private", "hours_per_week": 40.0}])
IS_ABOVE_50K = np.array([0])


def init():
    """Load the model once, before the first request."""
    global model
    model = joblib.load(Model.get_model_path("adult-income"))


@input_schema("data", PandasParameterType(PERSON))
@output_schema(NumpyParameterType(IS_ABOVE_50K))
def run(data):
    """1 for each person likely to earn above 50,000 a year, else 0."""
    return model.predict(data).tolist()
