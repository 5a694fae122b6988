"""The check that a container's engine runs inside it."""

import http.server
import os
import subprocess
import sys
import threading

import pytest


def checked(port):
    """How the check ends beside a server on this port."""
    env = {**os.environ, "KEELWAY_PORT": str(port)}
    command = [sys.executable, "-m", "keelway_runtime.health"]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=30)


@pytest.fixture(params=[200, 503])
def server(request):
    """(port, status) of a server that always answers so."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(request.param)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, request.param
        server.shutdown()


def test_it_is_well_when_the_server_answers_so(server):
    port, status = server

    ended = checked(port)

    assert ended.returncode == (0 if status == 200 else 1)
    assert ended.stderr == ("" if status == 200 else "answered 503\n")


def test_it_is_not_well_when_nobody_answers():
    ended = checked(9)

    assert ended.returncode == 1
    assert ended.stderr.startswith("no answer: ")
