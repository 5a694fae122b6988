"""Scripts that take the whole request and answer it themselves."""

import asyncio
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType
from inference_schema.schema_decorators import input_schema

from keelway_runtime import rawhttp
from keelway_runtime.arguments import Call
from keelway_runtime.rawhttp import AMLRequest, AMLResponse, ResponseHeaders
from keelway_runtime.scoring import Scorer
from keelway_runtime.script import Script, ScriptError

BOUNDARY = {"content-type": "multipart/form-data; boundary=cut"}

# What the old documentation's two scripts do, for binary data and for CORS; its second forgets @rawhttp.
ECHO = """
    from azureml.contrib.services.aml_request import AMLRequest, rawhttp
    from azureml.contrib.services.aml_response import AMLResponse

    def init():
        print("ready")

    @rawhttp
    def run(request):
        print("Request: [{0}]".format(request))
        if request.method == "GET":
            return AMLResponse(str.encode(request.full_path), 200)
        if request.method == "POST":
            answer = AMLResponse(request.get_data(False), 200)
            answer.headers["Access-Control-Allow-Origin"] = "http://www.example.com"
            return answer
        return AMLResponse("bad request", 500)
"""

PREFLIGHT = """
    from azureml_inference_server_http.api.aml_request import rawhttp
    from azureml_inference_server_http.api.aml_response import AMLResponse

    CORS = {"Access-Control-Allow-Origin": "http://www.example.com", "Access-Control-Allow-Methods": "POST"}

    def init():
        pass

    @rawhttp
    def run(request):
        return AMLResponse("", 204, CORS)
"""


@pytest.fixture(autouse=True)
def _each_test_is_a_process_of_its_own(monkeypatch):
    monkeypatch.setattr(rawhttp, "_marked", [])


@pytest.fixture(scope="module")
def raw_echo(serve):
    return serve(ECHO).wait_ready()


def scorer(run, *, is_async=False):
    return Scorer(Script(path=Path("score.py"), run=rawhttp.rawhttp(run), is_async=is_async))


def answer_of(value, **call):
    """What the caller gets when run() returns this, or what it makes of the request."""
    run = value if callable(value) else lambda request: value
    return scorer(run).score(given(**call))


def given(method="POST", query=b"", headers=None, body=b""):
    return Call(method, query, {"host": "scores.example", **(headers or {})}, body)


def multipart(*parts):
    return b"".join(b"--cut\r\n" + part + b"\r\n" for part in parts) + b"--cut--\r\n"


FIELD = b'Content-Disposition: form-data; name="label"\r\n\r\n'
FILE = b'Content-Disposition: form-data; name="image"; filename="cat.png"\r\nContent-Type: image/png\r\n\r\n'


def test_a_get_reaches_the_script_with_its_full_path(raw_echo):
    answer = raw_echo.get("/score?a=1&b=%20")

    assert (answer.status, answer.body) == (200, b"/score?a=1&b=%20")


def test_binary_goes_in_and_out_as_it_is(raw_echo):
    answer = raw_echo.score(b"\x00\xff\r\n\x80", {"content-type": "application/octet-stream"})

    assert (answer.status, answer.body) == (200, b"\x00\xff\r\n\x80")
    assert answer.headers["x-ms-run-function-failed"] == "False"
    assert float(answer.headers["x-ms-run-fn-exec-ms"]) >= 0


def test_cors_works_by_a_header_of_the_script(raw_echo):
    assert raw_echo.score(b"x").headers["access-control-allow-origin"] == "http://www.example.com"


def test_options_reaches_the_script_too(raw_echo):
    answer = raw_echo.request("OPTIONS", "/score")

    assert (answer.status, answer.body) == (500, b"bad request")
    assert answer.headers["x-ms-run-function-failed"] == "True"


def test_a_preflight_can_be_answered_by_the_script(serve):
    server = serve(PREFLIGHT).wait_ready()

    answer = server.request("OPTIONS", "/score", headers={"origin": "http://www.example.com"})

    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == "http://www.example.com"
    assert answer.headers["access-control-allow-methods"] == "POST"


def test_the_service_describes_itself_as_taking_anything(raw_echo):
    assert raw_echo.get("/swagger.json").json()["definitions"]["ServiceInput"] == {"type": "object", "example": {}}


def test_the_request_is_as_scripts_know_it():
    request = AMLRequest(
        given("GET", b"q=1&q=2&empty=&n=x", {"x-tenant": "bank", "cookie": 'id=7; theme="dark"', "accept": "*/*"})
    )

    assert (request.method, request.path, request.full_path) == ("GET", "/score", "/score?q=1&q=2&empty=&n=x")
    assert request.url == "http://scores.example/score?q=1&q=2&empty=&n=x"
    assert (request.headers["X-TENANT"], request.headers.get("Accept")) == ("bank", "*/*")
    assert (request.args["q"], request.args.getlist("q"), request.args.get("empty")) == ("1", ["1", "2"], "")
    assert (request.args.get("q", type=int), request.args.get("n", 5, int), request.args.get("gone")) == (1, 5, None)
    assert request.args.to_dict(flat=False)["q"] == ["1", "2"]
    assert request.cookies == {"id": "7", "theme": "dark"}
    assert (request.content_type, request.mimetype, request.is_json) == (None, "", False)
    assert repr(request) == "<AMLRequest 'http://scores.example/score?q=1&q=2&empty=&n=x' [GET]>"


def test_a_full_path_ends_in_a_question_mark_without_a_query_and_a_url_does_not():
    request = AMLRequest(given("GET", headers={"x-forwarded-proto": "https"}))

    assert (request.full_path, request.url) == ("/score?", "https://scores.example/score")


def test_a_body_can_be_read_in_every_way_and_again():
    request = AMLRequest(given(body="é".encode()))

    assert request.get_data() == request.get_data(False) == request.data == request.stream.read() == b"\xc3\xa9"
    assert request.get_data(as_text=True) == "é"


def test_json_is_parsed():
    request = AMLRequest(given(headers={"content-type": "application/json; charset=utf-8"}, body=b'{"a": [1]}'))

    assert request.is_json
    assert request.json == request.get_json() == {"a": [1]}


@pytest.mark.parametrize(
    ("content_type", "body", "status"), [("application/json", b"{", 400), ("text/plain", b"{}", 415)]
)
def test_a_body_that_is_no_json_is_the_callers_mistake(content_type, body, status):
    call = given(headers={"content-type": content_type}, body=body)

    answer = answer_of(lambda request: request.json, headers={"content-type": content_type}, body=body)

    assert (answer.status, answer.has_run_failed) == (status, False)
    assert AMLRequest(call).get_json(silent=True) is None


def test_json_of_another_content_type_can_be_forced():
    assert AMLRequest(given(body=b"[1]")).get_json(force=True) == [1]


def test_a_form_is_parsed_and_its_body_stays():
    headers = {"content-type": "application/x-www-form-urlencoded"}

    request = AMLRequest(given(headers=headers, body=b"a=1&a=2&b=%C3%A9"))

    assert (request.form["a"], request.form.getlist("a"), request.form["b"]) == ("1", ["1", "2"], "é")
    assert (request.files, request.data) == ({}, b"a=1&a=2&b=%C3%A9")


def test_files_and_fields_of_a_multipart_form_come_apart(tmp_path):
    content = b"\x00\r\n\r\n--cu\n\xff\r\n"
    body = multipart(FIELD + "Kätzchen".encode(), FIELD + b"2", FILE + content)

    request = AMLRequest(given(headers=BOUNDARY, body=body))
    image = request.files["image"]

    assert request.form.getlist("label") == ["Kätzchen", "2"]
    assert (image.filename, image.content_type, image.name) == ("cat.png", "image/png", "image")
    image.save(tmp_path / "saved.png")
    assert (tmp_path / "saved.png").read_bytes() == content
    image.stream.seek(0)
    assert image.read() == content


def test_a_file_can_be_saved_into_an_open_file(tmp_path):
    image = AMLRequest(given(headers=BOUNDARY, body=multipart(FILE + b"x"))).files["image"]

    with (tmp_path / "saved.png").open("wb") as target:
        image.save(target)

    assert (tmp_path / "saved.png").read_bytes() == b"x"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data; boundary=cut", multipart(FIELD + b"1")[:-8]),
        ("multipart/form-data; boundary=cut", b""),
        ("multipart/form-data", multipart(FIELD + b"1")),
        ("multipart/form-data; boundary=cut", multipart(*[FIELD] * 1001)),
        ("application/x-www-form-urlencoded", b"a=1&" * 1001),
    ],
    ids=["cut off", "empty", "no boundary", "too many parts", "too many fields"],
)
def test_a_form_that_cannot_be_read_is_400(content_type, body):
    answer = answer_of(lambda request: request.form, headers={"content-type": content_type}, body=body)

    assert (answer.status, answer.has_run_failed) == (400, False)


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_every_method_reaches_the_script(method):
    assert json.loads(answer_of(lambda request: [request.method], method=method).body) == [method]


def test_headers_are_given_beside_the_request():
    def run(request, request_headers):
        return request_headers["x-tenant"]

    assert answer_of(run, headers={"x-tenant": "bank"}).body == b'"bank"'


def test_an_async_run_may_be_raw():
    async def run(request):
        return AMLResponse(request.method, 202)

    answer = asyncio.run(scorer(run, is_async=True).score_async(given()))

    assert (answer.status, answer.body) == (202, b"POST")


def test_what_is_no_response_is_json_as_ever():
    answer = answer_of({"a": 1})

    assert (answer.status, answer.body, answer.content_type) == (200, b'{"a":1}', "application/json")


@pytest.mark.parametrize(
    ("response", "body", "content_type"),
    [
        (AMLResponse(b"\xff", 200), b"\xff", "text/html; charset=utf-8"),
        (AMLResponse("é", 200), "é".encode(), "text/html; charset=utf-8"),
        (AMLResponse({"a": 1}, 200, json_str=True), b'{"a":1}', "application/json"),
        (AMLResponse("a", 200, {}, True), b'"a"', "application/json"),
        (AMLResponse([1.5], 200), b"[1.5]", "application/json"),
        (AMLResponse(None, 200), b"{}", "application/json"),
        (AMLResponse(b"GIF89a", 200, {"Content-Type": "image/gif"}), b"GIF89a", "image/gif"),
        (AMLResponse(message=b"x", status_code=200, response_headers={"content-type": "a/b"}), b"x", "a/b"),
    ],
)
def test_a_response_has_its_body_and_content_type(response, body, content_type):
    answer = answer_of(response)

    assert (answer.status, answer.body, answer.content_type) == (200, body, content_type)


def test_an_undecorated_run_may_answer_with_a_response_too():
    made = Scorer(Script(Path("score.py"), lambda raw: AMLResponse(raw, 418, {"X-Pot": "tea"}), is_async=False))

    answer = made.score(given(body=b"short and stout"))

    assert not made.is_raw
    assert (answer.status, answer.body, dict(answer.headers)) == (418, b"short and stout", {"x-pot": "tea"})


def test_a_response_of_500_counts_as_failed_and_keeps_its_body():
    answer = answer_of(AMLResponse("bad request", 503))

    assert (answer.status, answer.body, answer.has_run_failed) == (503, b"bad request", True)


def test_a_response_can_say_that_it_failed():
    assert answer_of(AMLResponse("no", 400, run_function_failed=True)).has_run_failed
    assert not answer_of(AMLResponse("no", 400)).has_run_failed


def test_headers_are_set_in_any_case_and_a_cookie_may_come_twice():
    response = AMLResponse(b"", 200, {"Cache-Control": "no-store"})
    response.headers["cache-control"] = "max-age=1"
    response.headers.add("Set-Cookie", "a=1")
    response.headers.add("Set-Cookie", "b=2")

    headers = answer_of(response).headers

    assert list(headers.items()) == [("cache-control", "max-age=1"), ("set-cookie", "a=1"), ("set-cookie", "b=2")]


@pytest.mark.parametrize("name", ["Content-Length", "Transfer-Encoding", "connection", "X-Request-Id"])
def test_headers_that_are_the_servers_to_set_are_ignored(name):
    assert list(answer_of(AMLResponse(b"x", 200, {name: "5"})).headers.items()) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-A", "1\r\nSet-Cookie: b=2"),
        ("X-A", "1\nb"),
        ("X-A", "\x00"),
        ("X-A", "snow \N{SNOWMAN}"),
        ("X A", "1"),
        ("X-A:", "1"),
        ("", "1"),
        ("Content-Type", "a\r\nb"),
    ],
)
def test_a_header_that_http_cannot_carry_is_the_scripts_failure(name, value):
    answer = answer_of(lambda request: AMLResponse(b"x", 200, {name: value}))

    assert (answer.status, answer.has_run_failed) == (500, True)
    assert b"Set-Cookie" not in answer.body


@pytest.mark.parametrize("status", [0, 100, 199, 600, "abc", None])
def test_a_status_that_no_answer_has_is_the_scripts_failure(status):
    answer = answer_of(AMLResponse(b"x", status))

    assert (answer.status, answer.has_run_failed) == (500, True)


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_that_has_no_body_gets_none(status):
    assert answer_of(AMLResponse(b"x", status)).body == b""


def test_raw_and_a_schema_contradict_each_other():
    def run_raw_and_declared(data):
        return data

    declared = input_schema("data", StandardPythonParameterType(1))(run_raw_and_declared)

    with pytest.raises(ScriptError, match="both"):
        scorer(declared)


def test_hints_of_a_raw_run_declare_nothing():
    def run(request: AMLRequest, verbose: bool = False) -> AMLResponse:
        return AMLResponse(request.method, 200)

    assert answer_of(run).body == b"POST"


def test_flasks_own_request_is_given_where_a_real_package_marked_run(tmp_path):
    (tmp_path / "azureml/contrib/services").mkdir(parents=True)
    for package in ("azureml", "azureml/contrib", "azureml/contrib/services"):
        (tmp_path / package / "__init__.py").touch()
    (tmp_path / "azureml/contrib/services/aml_request.py").write_text("import flask\n_rawHttpRequested = True\n")
    (tmp_path / "flask.py").write_text(
        "class Request:\n    def __init__(self, environ):\n        self.environ = environ"
    )
    script = """
        from pathlib import Path
        import azureml.contrib.services.aml_request
        from keelway_runtime.arguments import Call
        from keelway_runtime.scoring import Scorer
        from keelway_runtime.script import Script

        def run(request):
            environ = dict(request.environ)
            return [environ.pop("wsgi.input").read().decode(), environ]

        made = Scorer(Script(Path("score.py"), run, is_async=False))
        headers = {"content-type": "text/csv", "x-tenant": "bank"}
        print(made.is_raw, made.score(Call("POST", b"a=1", headers, b"1,2")).body.decode(), sep="\\n")
    """

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    is_raw, answer = done.stdout.splitlines()
    body, environ = json.loads(answer)

    assert (is_raw, body) == ("True", "1,2")
    assert (environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"]) == ("POST", "/score", "a=1")
    assert (environ["CONTENT_TYPE"], environ["CONTENT_LENGTH"], environ["HTTP_X_TENANT"]) == ("text/csv", "3", "bank")


@pytest.mark.parametrize("package", ["azureml_inference_server_http.api", "azureml.contrib.services"])
def test_the_real_package_works_where_it_is_installed(serve, package):
    pytest.importorskip(f"{package}.aml_request", reason=f"{package} is not installed")
    server = serve(
        ECHO.replace("azureml.contrib.services", package).replace(
            'print("Request: [{0}]".format(request))', "import flask; assert isinstance(request, flask.Request)"
        )
    ).wait_ready()

    answer = server.score(b"\x00\xff", {"content-type": "application/x-www-form-urlencoded"})

    assert (answer.status, answer.body) == (200, b"\x00\xff")
    assert answer.headers["access-control-allow-origin"] == "http://www.example.com"
    assert server.get("/score?a=1").body == b"/score?a=1"


def test_responses_of_flask_are_told_by_what_they_can_do():
    class Response:
        status_code, headers = 201, ResponseHeaders()
        headers.update({"Content-Type": "image/png", "ETag": '"1"'})

        def get_data(self):
            return b"png"

    answer = answer_of(Response())

    assert (answer.status, answer.body, answer.content_type) == (201, b"png", "image/png")
    assert dict(answer.headers) == {"etag": '"1"'}
