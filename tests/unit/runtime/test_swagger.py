import pytest

OPERATIONS = {("/", "get"): "ServiceHealthCheck", ("/score", "post"): "RunMLService"}


def operations(document):
    return {
        (path, method): operation["operationId"]
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_version_2_has_the_keys_and_operations_clients_were_generated_from(echo):
    document = echo.get("/swagger.json").json()

    address, rest = {"host", "basePath", "schemes"}, {"paths", "definitions", "securityDefinitions"}
    assert set(document) == {"swagger", "info", "consumes", "produces"} | address | rest
    assert document["swagger"] == "2.0"
    assert set(document["info"]) == {"title", "description", "version"}
    assert document["info"]["title"] == "echo"
    assert document["info"]["version"] == "1.0"
    assert document["consumes"] == document["produces"] == ["application/json"]
    bearer = document["securityDefinitions"]["Bearer"]
    assert (bearer["type"], bearer["name"], bearer["in"]) == ("apiKey", "Authorization", "header")
    assert operations(document) == OPERATIONS
    health, score = document["paths"]["/"]["get"], document["paths"]["/score"]["post"]
    assert set(health) == {"operationId", "description", "responses"}
    assert health["responses"]["200"]["schema"] == {"type": "string"}
    assert health["responses"]["200"]["examples"] == {"application/json": "Healthy"}
    assert score["security"] == [{"Bearer": []}]
    [payload] = score["parameters"]
    assert (payload["name"], payload["in"]) == ("serviceInputPayload", "body")
    assert payload["schema"] == {"$ref": "#/definitions/ServiceInput"}
    assert score["responses"]["200"]["schema"] == {"$ref": "#/definitions/ServiceOutput"}
    assert score["responses"]["default"]["schema"] == {"$ref": "#/definitions/ErrorResponse"}
    assert document["definitions"]["ErrorResponse"] == {
        "type": "object",
        "properties": {"status_code": {"type": "integer", "format": "int32"}, "message": {"type": "string"}},
    }


DESCRIBED = "words of our own"
FAILED = {"description": DESCRIBED, "schema": {"$ref": "#/definitions/ErrorResponse"}}
# The old documentation's example of a document, less its words: what its first script gave.
OLD_DOCUMENT = {
    "swagger": "2.0",
    "info": {"title": "myservice", "description": DESCRIBED, "version": "1.0"},
    "schemes": ["https"],
    "consumes": ["application/json"],
    "produces": ["application/json"],
    "securityDefinitions": {
        "Bearer": {"type": "apiKey", "name": "Authorization", "in": "header", "description": DESCRIBED}
    },
    "paths": {
        "/": {
            "get": {
                "operationId": "ServiceHealthCheck",
                "description": DESCRIBED,
                "responses": {
                    "200": {
                        "description": DESCRIBED,
                        "schema": {"type": "string"},
                        "examples": {"application/json": "Healthy"},
                    },
                    "default": FAILED,
                },
            }
        },
        "/score": {
            "post": {
                "operationId": "RunMLService",
                "description": DESCRIBED,
                "security": [{"Bearer": []}],
                "parameters": [
                    {
                        "name": "serviceInputPayload",
                        "in": "body",
                        "description": DESCRIBED,
                        "schema": {"$ref": "#/definitions/ServiceInput"},
                    }
                ],
                "responses": {
                    "200": {"description": DESCRIBED, "schema": {"$ref": "#/definitions/ServiceOutput"}},
                    "default": FAILED,
                },
            }
        },
    },
    "definitions": {
        "ServiceInput": {
            "type": "object",
            "properties": {
                "data": {"type": "array", "items": {"type": "array", "items": {"type": "integer", "format": "int64"}}}
            },
            "example": {"data": [[10, 9, 8, 7, 6, 5, 4, 3, 2, 1]]},
        },
        "ServiceOutput": {
            "type": "array",
            "items": {"type": "number", "format": "double"},
            "example": [3726.995],
        },
        "ErrorResponse": {
            "type": "object",
            "properties": {"status_code": {"type": "integer", "format": "int32"}, "message": {"type": "string"}},
        },
    },
}


@pytest.fixture(scope="module")
def old_first(serve):
    """The old documentation's first script, written afresh; a sum stands in for its model."""
    return serve(
        """
        import json

        import numpy as np
        from azureml.core.model import Model
        from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
        from inference_schema.schema_decorators import input_schema, output_schema

        def init():
            global weights
            weights = np.ones(10)

        @input_schema("data", NumpyParameterType(np.array([[10, 9, 8, 7, 6, 5, 4, 3, 2, 1]])))
        @output_schema(NumpyParameterType(np.array([3726.995])))
        def run(data):
            try:
                return (data @ weights).tolist()
            except Exception as error:
                return str(error)
        """,
        SERVICE_NAME="myservice",
    ).wait_ready()


def without_words(value):
    """The document with every description the same."""
    if isinstance(value, dict):
        return {key: DESCRIBED if key == "description" else without_words(item) for key, item in value.items()}
    return [without_words(item) for item in value] if isinstance(value, list) else value


def test_the_old_first_script_has_the_old_document(old_first):
    document = old_first.get("/swagger.json", {"x-forwarded-proto": "https"}).json()

    address = {name: document.pop(name) for name in ("host", "basePath")}

    assert without_words(document) == OLD_DOCUMENT
    assert list(document["paths"]) == list(OLD_DOCUMENT["paths"])
    assert set(address) == {"host", "basePath"}


def test_the_old_first_script_answers_the_old_call(old_first):
    rows = [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]]

    assert old_first.score({"data": rows}).json() == [55.0, 55.0]


@pytest.mark.parametrize("version", ["2", "3.0", "3.1"])
def test_a_decorated_scripts_document_is_valid_in_every_version(old_first, version):
    validate = pytest.importorskip("openapi_spec_validator").validate

    validate(old_first.get(f"/swagger.json?version={version}").json())


def test_an_undecorated_script_takes_and_gives_any_object(echo):
    definitions = echo.get("/swagger.json").json()["definitions"]

    assert definitions["ServiceInput"] == definitions["ServiceOutput"] == {"type": "object", "example": {}}


def test_the_address_is_the_one_the_caller_used(echo):
    document = echo.get("/swagger.json", {"host": "scores.example:8080"}).json()

    assert (document["schemes"], document["host"], document["basePath"]) == (["http"], "scores.example:8080", "/")


def test_behind_a_gateway_the_address_is_the_gateways(echo):
    forwarded = {
        "x-forwarded-proto": "https",
        "x-forwarded-host": "gateway.example",
        "x-forwarded-prefix": "/default/echo",
    }

    document = echo.get("/swagger.json", forwarded).json()
    newer = echo.get("/swagger.json?version=3", forwarded).json()

    assert document["schemes"] == ["https"]
    assert (document["host"], document["basePath"]) == ("gateway.example", "/default/echo")
    assert newer["servers"] == [{"url": "https://gateway.example/default/echo"}]


@pytest.mark.parametrize(("asked", "exact"), [("3", "3.0.3"), ("3.0", "3.0.3"), ("3.1", "3.1.0")])
def test_newer_versions_describe_the_same_operations(echo, asked, exact):
    validate = pytest.importorskip("openapi_spec_validator").validate

    document = echo.get(f"/swagger.json?version={asked}").json()

    assert document["openapi"] == exact
    assert operations(document) == OPERATIONS
    validate(document)


OPTIONAL = """
import numpy as np
from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType
from inference_schema.schema_decorators import input_schema


def init(): pass


@input_schema("data", NumpyParameterType(np.array([[1.0]])))
@input_schema("scale", StandardPythonParameterType(1.5))
@input_schema("note", StandardPythonParameterType("a"), optional=True)
def run(data, request_headers, note, scale=1.5):
    return scale
"""


def test_newer_versions_say_which_members_may_not_be_left_out(serve):
    server = serve(OPTIONAL).wait_ready()

    newer = server.get("/swagger.json?version=3.1").json()["components"]["schemas"]["ServiceInput"]
    old = server.get("/swagger.json").json()["definitions"]["ServiceInput"]

    assert newer["required"] == ["data"]
    assert set(newer["properties"]) == {"data", "scale", "note"}
    assert "required" not in old
    assert server.score(b"{}").status == 400


@pytest.mark.parametrize("asked", ["2", "2.0"])
def test_version_2_is_valid(echo, asked):
    validate = pytest.importorskip("openapi_spec_validator").validate

    validate(echo.get(f"/swagger.json?version={asked}").json())


def test_an_unknown_version_is_404_in_json(echo):
    answer = echo.get("/swagger.json?version=4")

    assert answer.status == 404
    assert "'4'" in answer.json()["message"]


@pytest.mark.parametrize(
    ("file", "query", "is_own"),
    [
        ("swagger.json", "", True),
        ("swagger2.json", "?version=2.0", True),
        ("swagger3.json", "?version=3", True),
        ("swagger3.json", "", False),
        ("swagger.json", "?version=3.1", False),
    ],
)
def test_a_document_of_the_scripts_own_is_served_in_place_of_ours(serve, tmp_path, file, query, is_own):
    (tmp_path / file).write_text('{"mine": true}')
    server = serve("def init(): pass\ndef run(raw): return raw", app_root=tmp_path).wait_ready()

    assert (server.get(f"/swagger.json{query}").json() == {"mine": True}) is is_own
