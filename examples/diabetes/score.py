"""Scores diabetes progression with a ridge regression: ten measurements a patient, one figure back."""

import joblib
import numpy as np
from azureml.core.model import Model
from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
from inference_schema.schema_decorators import input_schema, output_schema

PATIENT = np.array([[0.04, 0.05, 0.06, 0.02, -0.04, -0.03, -0.04, 0.0, 0.02, -0.02]])
PROGRESSION = np.array([201.5])


def init():
    """Load the model once, before the first request."""
    global model
    model = joblib.load(Model.get_model_path("diabetes-ridge"))


@input_schema("data", NumpyParameterType(PATIENT))
@output_schema(NumpyParameterType(PROGRESSION))
def run(data):
    """The progression after one year for each patient; data is an array of patients x 10."""
    return model.predict(data).tolist()
