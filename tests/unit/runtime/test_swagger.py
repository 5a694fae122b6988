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


@pytest.mark.parametrize("asked", ["2", "2.0"])
def test_version_2_is_valid(echo, asked):
    validate = pytest.importorskip("openapi_spec_validator").validate

    validate(echo.get(f"/swagger.json?version={asked}").json())


def test_an_unknown_version_is_404_in_json(echo):
    answer = echo.get("/swagger.json?version=4")

    assert answer.status == 404
    assert "'4'" in answer.json()["message"]
