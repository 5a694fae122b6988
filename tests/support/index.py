"""A package index whose downloads wait: a build can be caught in the middle."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PACKAGE = "keelway-stalling"
VERSIONS = range(1, 10)


class StallingIndex:
    """Has one package in several versions. Its metadata comes at once, its wheels once `let_go` was called."""

    def __init__(self) -> None:
        self._asked: dict[int, threading.Event] = {version: threading.Event() for version in VERSIONS}
        self._free: dict[int, threading.Event] = {version: threading.Event() for version in VERSIONS}
        self._unused = iter(VERSIONS)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        """For `UV_INDEX`."""
        return f"http://127.0.0.1:{self._server.server_port}/simple"

    @contextmanager
    def serving(self) -> Iterator[StallingIndex]:
        """Answers requests while inside."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield self
        finally:
            for event in self._free.values():
                event.set()
            self._server.shutdown()
            thread.join()
            self._server.server_close()

    def new_version(self) -> int:
        """One that nobody has downloaded yet."""
        return next(self._unused)

    def is_waited_for(self, version: int) -> bool:
        """Whether somebody's download waits, or did."""
        return self._asked[version].is_set()

    def forget(self, version: int) -> None:
        """Notice the next download."""
        self._asked[version].clear()

    def let_go(self, version: int) -> None:
        """Send the wheel, now and from now on."""
        self._free[version].set()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, kind, body = index._answer(self.path)
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", kind)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except OSError:
                    return  # whoever asked was killed meanwhile

            def log_message(self, format: str, *args: object) -> None:
                return

        return Handler

    def _answer(self, path: str) -> tuple[int, str, bytes]:
        if path == f"/simple/{PACKAGE}/":
            return 200, "text/html", "".join(_link(version) for version in VERSIONS).encode()
        name = path.rpartition("/")[2]
        for version in VERSIONS:
            if name == f"{_file(version)}.metadata":
                return 200, "text/plain", _metadata(version)
            if name == _file(version):
                self._asked[version].set()
                self._free[version].wait(120)
                return 200, "application/octet-stream", _wheel(version)
        return 404, "text/plain", b"not here"


def _file(version: int) -> str:
    return f"keelway_stalling-{version}-py3-none-any.whl"


def _link(version: int) -> str:
    wheel, metadata = (hashlib.sha256(data).hexdigest() for data in (_wheel(version), _metadata(version)))
    return (
        f'<a href="/files/{_file(version)}#sha256={wheel}" data-core-metadata="sha256={metadata}">{_file(version)}</a>'
    )


def _metadata(version: int) -> bytes:
    return f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: {version}\n".encode()


def _wheel(version: int) -> bytes:
    info = f"keelway_stalling-{version}.dist-info"
    files = {
        "keelway_stalling.py": b"",
        f"{info}/METADATA": _metadata(version),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"]).encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as wheel:
        for name, data in files.items():
            wheel.writestr(zipfile.ZipInfo(name), data)
    return packed.getvalue()
