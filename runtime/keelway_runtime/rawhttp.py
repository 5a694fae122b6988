"""Raw HTTP: a run() that takes the whole request and may answer with status, headers and bytes of its own.

The classes stand in for those of azureml-contrib-services and azureml-inference-server-http, which are flask's. Where
one of these packages is installed, run() gets flask's request, and its responses are taken as they are.
"""

from __future__ import annotations

import email.message
import io
import re
import shutil
import sys
from functools import cached_property
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, Mapping, TypeVar
from urllib.parse import parse_qsl
from wsgiref.headers import Headers

from keelway_runtime.arguments import Call, RawArguments, headers_of, parsed_json
from keelway_runtime.encode import encode
from keelway_runtime.refusal import Refusal

Run = TypeVar("Run", bound=Callable[..., Any])

PARTS_MAX = 1000
REAL_MODULES = ("azureml.contrib.services.aml_request", "azureml_inference_server_http.api.aml_request")
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HEADER_VALUE = re.compile(r"[\t -~\x80-\xff]*")
# How the answer is framed is the server's business, and it tells these of its own by itself.
NOT_THE_SCRIPTS = re.compile(
    r"connection|content-length|content-type|keep-alive|trailer|transfer-encoding|upgrade"
    r"|x-request-id|x-ms-request-id|x-ms-client-request-id|x-ms-run-fn-exec-ms|x-ms-run-function-failed"
)
_marked: list[Callable[..., Any]] = []


def rawhttp(run: Run) -> Run:
    """Decorator: this script's run() takes the whole request."""
    _marked.append(run)
    return run


def is_asked_for() -> bool:
    """Whether the script, of which a process has one, used @rawhttp: this one or that of a real package."""
    return bool(_marked) or _is_asked_of_flask()


def _is_asked_of_flask() -> bool:
    return any(getattr(sys.modules.get(name), "_rawHttpRequested", False) for name in REAL_MODULES)


class RequestArguments(RawArguments):
    """Of a run() under @rawhttp: the request itself."""

    def __init__(self, run: Callable[..., Any]) -> None:
        super().__init__(run)
        self.needs_headers = True
        self._request = _flask_request if _is_asked_of_flask() else AMLRequest

    def _given(self, call: Call) -> Any:
        return self._request(call)


def _flask_request(call: Call) -> Any:
    environ = {
        "REQUEST_METHOD": call.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": call.path,
        "QUERY_STRING": call.query.decode("latin-1"),
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.url_scheme": _scheme(call),
        "wsgi.input": io.BytesIO(call.body),
        "wsgi.input_terminated": True,  # else a body that came in chunks counts as none
        **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in call.headers.items()},
        "CONTENT_TYPE": call.headers.get("content-type", ""),
        "CONTENT_LENGTH": str(len(call.body)),
    }
    return sys.modules["flask"].Request(environ)


def _scheme(call: Call) -> str:
    return call.headers.get("x-forwarded-proto", "http").split(",")[0].strip()


class MultiDict(dict):
    """Names that may have several values: by name the first, with getlist() all."""

    def __init__(self, pairs: Iterable[tuple[str, Any]]) -> None:
        self._lists: dict[str, list[Any]] = {}
        for name, value in pairs:
            self._lists.setdefault(name, []).append(value)
        super().__init__((name, values[0]) for name, values in self._lists.items())

    def get(self, name: str, default: Any = None, type: Callable[[Any], Any] | None = None) -> Any:
        """The first value, as `type` makes it; the default where there is none or it cannot."""
        try:
            return self[name] if type is None else type(self[name])
        except (KeyError, ValueError):
            return default

    def getlist(self, name: str) -> list[Any]:
        """All values of this name."""
        return list(self._lists.get(name, ()))

    def to_dict(self, flat: bool = True) -> dict[str, Any]:
        """A plain dict of first values, or of lists."""
        return dict(self) if flat else {name: list(values) for name, values in self._lists.items()}


class UploadedFile(io.BytesIO):
    """A file of a multipart form."""

    def __init__(self, content: bytes, name: str, filename: str, content_type: str) -> None:
        super().__init__(content)
        self.name, self.filename, self.content_type = name, filename, content_type

    @property
    def stream(self) -> UploadedFile:
        """What to read it from."""
        return self

    def save(self, target: Any) -> None:
        """Write it to a path, or into an open file."""
        if hasattr(target, "write"):
            shutil.copyfileobj(self, target)
        else:
            Path(target).write_bytes(self.read())


class AMLRequest:
    """One HTTP request, under the names that scripts know from flask's."""

    def __init__(self, call: Call) -> None:
        self.method, self.path, self.data, self.query_string = call.method, call.path, call.body, call.query
        self.headers = headers_of(call)
        self.content_type = call.headers.get("content-type")
        self.mimetype = (self.content_type or "").partition(";")[0].strip().lower()
        self.is_json = self.mimetype == "application/json" or self.mimetype.endswith("+json")
        self.full_path = f"{call.path}?{call.query.decode('latin-1')}"
        local = self.full_path if call.query else call.path
        self.url = f"{_scheme(call)}://{call.headers.get('host', 'localhost')}{local}"

    def __repr__(self) -> str:
        return f"<AMLRequest {self.url!r} [{self.method}]>"

    def get_data(self, cache: bool = True, as_text: bool = False, parse_form_data: bool = False) -> Any:
        """The body, whatever its content type: a form is not emptied."""
        return self.data.decode("utf-8", "replace") if as_text else self.data

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:
        """The body's JSON value. A body that is none is the caller's mistake, 415 or 400, or None if `silent`."""
        try:
            if not (self.is_json or force):
                raise Refusal(415, "This service takes JSON: send the header Content-Type: application/json")
            return parsed_json(self.data)
        except Refusal:
            if silent:
                return None
            raise

    @property
    def json(self) -> Any:
        """The body's JSON value."""
        return self.get_json()

    @cached_property
    def args(self) -> MultiDict:
        """The query parameters."""
        return MultiDict(parse_qsl(self.query_string.decode("latin-1"), keep_blank_values=True))

    @property
    def form(self) -> MultiDict:
        """The fields of a form, of either kind."""
        return self._form[0]

    @property
    def files(self) -> MultiDict:
        """The files of a multipart form."""
        return self._form[1]

    @cached_property
    def stream(self) -> io.BytesIO:
        """The body as a file."""
        return io.BytesIO(self.data)

    @cached_property
    def cookies(self) -> MultiDict:
        """The cookies that the caller sent."""
        pairs = (part.partition("=") for part in self.headers.get("cookie", "").split(";") if part.strip())
        return MultiDict((name.strip(), value.strip().strip('"')) for name, _, value in pairs)

    @cached_property
    def _form(self) -> tuple[MultiDict, MultiDict]:
        if self.mimetype == "application/x-www-form-urlencoded":
            return MultiDict(_urlencoded(self.data)), MultiDict(())
        is_multipart = self.mimetype == "multipart/form-data"
        parts = list(_parts(self.data, self.content_type or "")) if is_multipart else []
        files = [(name, part) for name, part in parts if isinstance(part, UploadedFile)]
        return MultiDict(pair for pair in parts if isinstance(pair[1], str)), MultiDict(files)


def _urlencoded(body: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=PARTS_MAX)
    except ValueError:
        raise Refusal(400, f"The form has more than {PARTS_MAX} fields") from None


def _parts(body: bytes, content_type: str) -> Iterator[tuple[str, str | UploadedFile]]:
    """Fields and files of a multipart form, RFC 7578."""
    whole = email.message.Message()
    whole["content-type"] = content_type
    boundary = str(whole.get_param("boundary", "")).encode("latin-1", "replace")
    sections = (b"\r\n" + body).split(b"\r\n--" + boundary, PARTS_MAX + 1)[1:]
    if not boundary or not sections or not sections[-1].startswith(b"--"):
        raise Refusal(400, f"The form is not complete, or has more than {PARTS_MAX} parts")
    for section in sections[:-1]:
        head, _, content = section.partition(b"\r\n\r\n")
        part = email.message_from_string(head.strip().decode("utf-8", "replace"))
        name, filename = str(part.get_param("name", "", "content-disposition")), part.get_filename()
        if filename is None:
            yield name, content.decode("utf-8", "replace")
        else:
            yield name, UploadedFile(content, name, filename, part.get("content-type", ""))


class ResponseHeaders(Headers):
    """Headers in any case and in their order; one that came in by add() may stand there several times."""

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, str(value))

    def add(self, name: str, value: Any) -> None:
        """One more of this name, as several Set-Cookie."""
        self.add_header(name, str(value))

    def update(self, headers: Mapping[str, Any]) -> None:
        """Set each of these."""
        for name, value in headers.items():
            self[name] = value


class AMLResponse:
    """An answer of the script's own: bytes or text as they are, with json_str or of any other type as JSON."""

    def __init__(
        self,
        message: Any,
        status_code: int,
        response_headers: Mapping[str, Any] | None = None,
        json_str: bool = False,
        run_function_failed: bool = False,
    ) -> None:
        is_json = json_str or not isinstance(message, (str, bytes, bytearray, memoryview))
        self.status_code = status_code
        self.data = encode({} if message is None else message) if is_json else message
        self.headers = ResponseHeaders()
        self.headers["Content-Type"] = "application/json" if is_json else "text/html; charset=utf-8"
        self.headers["x-ms-run-function-failed"] = run_function_failed
        self.headers.update(response_headers or {})

    def get_data(self) -> bytes:
        """The body."""
        return self.data.encode() if isinstance(self.data, str) else bytes(self.data)


def is_response(value: Any) -> bool:
    """Whether run() returned an answer of its own: AMLResponse, or one of flask's or werkzeug's."""
    return hasattr(type(value), "get_data") and hasattr(value, "status_code") and hasattr(value, "headers")


def sent_headers(response: Any) -> ResponseHeaders:
    """The headers of such an answer that are the script's to set, in lower case.

    Raises ValueError for one that HTTP cannot carry: with a line break, an answer could be split in two.
    """
    sent = ResponseHeaders()
    for name, value in response.headers.items():
        if not HEADER_NAME.fullmatch(name) or not HEADER_VALUE.fullmatch(str(value)):
            raise ValueError(f"the script set a header that HTTP cannot carry: {name!r}: {str(value)[:100]!r}")
        if not NOT_THE_SCRIPTS.fullmatch(name.lower()):
            sent.add(name.lower(), value)
    return sent
