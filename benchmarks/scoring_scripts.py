"""What users of each server would write around the same model: entry scripts, a BentoML service, an MLServer runtime.

As text, since each runs in its server's own environment. $FOLDER and $PORT are filled in when a server is laid out.
"""

from __future__ import annotations

_INIT = """
import json
import os

import joblib
import numpy as np


def init():
    global model
    model = joblib.load(os.path.join(os.environ["AZUREML_MODEL_DIR"], "model.joblib"))
"""

UNDECORATED = f"""{_INIT}

def run(raw_data):
    data = np.array(json.loads(raw_data)["data"])
    return model.predict(data).tolist()
"""

SCHEMA = f"""{_INIT}

from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
from inference_schema.schema_decorators import input_schema, output_schema


@input_schema("data", NumpyParameterType(np.array([[1.0] * 10])))
@output_schema(NumpyParameterType(np.array([1.0])))
def run(data):
    return model.predict(data).tolist()
"""

RAW = """
import json

from azureml_inference_server_http.api.aml_request import AMLRequest, rawhttp
from azureml_inference_server_http.api.aml_response import AMLResponse


def init():
    pass


@rawhttp
def run(request):
    body = request.get_data()
    return AMLResponse(json.dumps([len(body), body[0], body[-1]]), 200)
"""

# Its command binds every address and has no option for that: this is what the command calls, on loopback only.
AZUREML_MAIN = """
from azureml_inference_server_http.amlserver_linux import run

run("127.0.0.1", $PORT, 1)
"""

BENTOML = """
from pathlib import Path
from typing import List

import bentoml
import joblib
import numpy as np


@bentoml.service(logging={"access": {"enabled": False}})
class Ridge:
    def __init__(self):
        self.model = joblib.load("$FOLDER/model.joblib")

    @bentoml.api
    async def score(self, data: List[List[float]]) -> List[float]:
        return self.model.predict(np.array(data)).tolist()

    @bentoml.api
    async def raw(self, body: Path, /) -> List[int]:
        content = body.read_bytes()
        return [len(content), content[0], content[-1]]
"""

MLSERVER = """
{"debug": false, "host": "127.0.0.1", "http_port": $PORT, "grpc_port": $PORT_2, "metrics_port": $PORT_3,
 "parallel_workers": $WORKERS}
"""

MLSERVER_MODEL = """
{"name": "ridge", "implementation": "mlserver_sklearn.SKLearnModel", "parameters": {"uri": "$FOLDER/model.joblib"},
 "max_batch_size": $BATCH_SIZE, "max_batch_time": $BATCH_S}
"""

MLSERVER_RAW_MODEL = '{"name": "raw", "implementation": "raw_model.RawModel"}'

MLSERVER_RAW = """
from fastapi import Request, Response
from mlserver import MLModel
from mlserver.handlers import custom_handler


class RawModel(MLModel):
    async def load(self) -> bool:
        return True

    @custom_handler(rest_path="/raw")
    async def raw(self, request: Request) -> Response:
        body = await request.body()
        return Response(f"[{len(body)}, {body[0]}, {body[-1]}]")
"""
