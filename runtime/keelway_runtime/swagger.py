"""The service's description: Swagger 2.0 with the keys and operation ids of the old system, or OpenAPI 3."""

from __future__ import annotations

from typing import Any

from keelway_runtime.http import Request
from keelway_runtime.refusal import Refusal
from keelway_runtime.settings import Settings

JSON = "application/json"
VERSIONS = {"2": "2.0", "2.0": "2.0", "3": "3.0", "3.0": "3.0", "3.1": "3.1"}
OWN_FILES = {"swagger.json": ("2", "2.0"), "swagger2.json": ("2", "2.0"), "swagger3.json": ("3", "3.0")}
OPENAPI = {"3.0": "3.0.3", "3.1": "3.1.0"}

HEALTH = "Tells whether the service is up and ready to score."
HEALTHY = "The service is ready; the body is the word Healthy."
SCORE = "Scores the input with the service's model."
INPUT = "The values to score."
SCORED = "What the model answered for this input."
FAILED = "The request was refused or the service failed; the message says why."
KEY = "The service's key or token after the word Bearer, as in: Bearer abc123"

ERROR_RESPONSE = {
    "type": "object",
    "properties": {"status_code": {"type": "integer", "format": "int32"}, "message": {"type": "string"}},
}


def own_documents(settings: Settings) -> dict[str, bytes]:
    """Documents that lie beside the entry script or in the app root, by the versions they are for; they win."""
    found: dict[str, bytes] = {}
    for folder in filter(None, (settings.app_root, settings.source_directory)):
        for name, versions in OWN_FILES.items():
            if (folder / name).is_file():
                found.update(dict.fromkeys(versions, (folder / name).read_bytes()))
    return found


def document(request: Request, schema: dict[str, Any], service: str, version: str) -> dict[str, Any]:
    """The document in the version asked for, with the address the caller used to get here.

    Raises Refusal 404 for a version that is unknown or cannot express this service's schema.
    """
    if version not in VERSIONS:
        raise Refusal(404, f"There is no Swagger version {version[:20]!r}; there are {', '.join(VERSIONS)}")
    exact = VERSIONS[version]
    if exact not in schema["versions"]:
        others = " or ".join(schema["versions"]) or "none, they contradict each other"
        raise Refusal(404, f"Swagger {exact} cannot express this service's schema; ask for {others}")
    address = _address(request)
    if exact == "2.0":
        return _swagger_2(schema, service, address)
    return _openapi_3(schema, service, address, OPENAPI[exact])


def _address(request: Request) -> dict[str, str]:
    """scheme, host and prefix as the caller sees them: what a gateway forwarded, else the request's own."""

    def first(header: str, default: str) -> str:
        return request.header(header, default).split(",")[0].strip()

    return {
        "scheme": first("x-forwarded-proto", "http"),
        "host": first("x-forwarded-host", request.header("host")),
        "prefix": first("x-forwarded-prefix", "").rstrip("/"),
    }


def _schemas(schema: dict[str, Any]) -> dict[str, Any]:
    return {"ServiceInput": schema["input"], "ServiceOutput": schema["output"], "ErrorResponse": ERROR_RESPONSE}


def _info(service: str) -> dict[str, str]:
    return {"title": service, "description": f"How to call the machine learning service {service}", "version": "1.0"}


def _swagger_2(schema: dict[str, Any], service: str, address: dict[str, str]) -> dict[str, Any]:
    failed = {"description": FAILED, "schema": {"$ref": "#/definitions/ErrorResponse"}}
    healthy = {"description": HEALTHY, "schema": {"type": "string"}, "examples": {JSON: "Healthy"}}
    payload = {
        "name": "serviceInputPayload",
        "in": "body",
        "description": INPUT,
        "schema": {"$ref": "#/definitions/ServiceInput"},
    }
    return {
        "swagger": "2.0",
        "info": _info(service),
        **({"host": address["host"]} if address["host"] else {}),
        "basePath": address["prefix"] or "/",
        "schemes": [address["scheme"]],
        "consumes": [JSON],
        "produces": [JSON],
        "securityDefinitions": {
            "Bearer": {"type": "apiKey", "name": "Authorization", "in": "header", "description": KEY}
        },
        "paths": {
            "/": {
                "get": {
                    "operationId": "ServiceHealthCheck",
                    "description": HEALTH,
                    "responses": {"200": healthy, "default": failed},
                }
            },
            "/score": {
                "post": {
                    "operationId": "RunMLService",
                    "description": SCORE,
                    "security": [{"Bearer": []}],
                    "parameters": [payload],
                    "responses": {
                        "200": {"description": SCORED, "schema": {"$ref": "#/definitions/ServiceOutput"}},
                        "default": failed,
                    },
                }
            },
        },
        "definitions": _schemas(schema),
    }


def _openapi_3(schema: dict[str, Any], service: str, address: dict[str, str], version: str) -> dict[str, Any]:
    def content(name: str) -> dict[str, Any]:
        return {JSON: {"schema": {"$ref": f"#/components/schemas/{name}"}}}

    failed = {"description": FAILED, "content": content("ErrorResponse")}
    healthy = {"description": HEALTHY, "content": {"text/plain": {"schema": {"type": "string"}, "example": "Healthy"}}}
    origin = f"{address['scheme']}://{address['host']}" if address["host"] else ""
    # The documents of the old system, in version 2.0, never had it.
    required = {"required": schema["required"]} if schema["required"] else {}
    return {
        "openapi": version,
        "info": _info(service),
        "servers": [{"url": origin + address["prefix"] or "/"}],
        "paths": {
            "/": {
                "get": {
                    "operationId": "ServiceHealthCheck",
                    "description": HEALTH,
                    "responses": {"200": healthy, "default": failed},
                }
            },
            "/score": {
                "post": {
                    "operationId": "RunMLService",
                    "description": SCORE,
                    "security": [{"Bearer": []}],
                    "requestBody": {"description": INPUT, "content": content("ServiceInput")},
                    "responses": {
                        "200": {"description": SCORED, "content": content("ServiceOutput")},
                        "default": failed,
                    },
                }
            },
        },
        "components": {
            "securitySchemes": {"Bearer": {"type": "http", "scheme": "bearer", "description": KEY}},
            "schemas": {**_schemas(schema), "ServiceInput": {**required, **schema["input"]}},
        },
    }
