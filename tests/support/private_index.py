"""A package index that wants a password."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.wheels import file_name, wheel

PACKAGE = "acme_private"
USERNAME, PASSWORD = "index-reader", "index-canary-4711"


@contextmanager
def serving() -> Iterator[str]:
    """The index's address with name and password, as uv takes it. It has one wheel."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://{USERNAME}:{PASSWORD}@127.0.0.1:{server.server_port}/simple"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, kind, body = self._answer()
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", "Basic")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET

    def _answer(self) -> tuple[int, str, bytes]:
        known = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {known}":
            return 401, "text/plain", b"who are you?"
        data = wheel(PACKAGE)
        if self.path == f"/simple/{PACKAGE.replace('_', '-')}/":
            link = f'<a href="/{file_name(PACKAGE)}#sha256={hashlib.sha256(data).hexdigest()}">{file_name(PACKAGE)}</a>'
            return 200, "text/html", link.encode()
        if self.path == f"/{file_name(PACKAGE)}":
            return 200, "application/octet-stream", data
        return 404, "text/plain", b"not here"

    def log_message(self, format: str, *args: object) -> None:
        return
