"""Where a node's replicas listen, and by which address they are announced."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import pytest
from pydantic import ValidationError

from keelway_workers.settings import WorkerSettings
from tests.unit.workers.plane import replica_spec

NAME = "ridge-r1-0"


def answers(host: str, port: int | None) -> bool:
    try:
        socket.create_connection((host, port), timeout=2).close()
    except OSError:
        return False
    return True


def test_a_replica_listens_where_the_node_says_and_nowhere_else(plane, settings, environment, supervise):
    settings.replica_host = "127.0.0.2"
    plane.want(replica_spec(plane, environment))

    supervise()
    plane.wait_for(NAME, "ready")

    url = urlsplit(plane.seen(NAME).url)
    assert url.hostname == "127.0.0.2"
    assert answers("127.0.0.2", url.port)
    assert not answers("127.0.0.1", url.port)


def test_an_adopted_replica_keeps_the_address_it_was_started_with(plane, settings, environment, supervise):
    plane.want(replica_spec(plane, environment))
    first = supervise()
    plane.wait_for(NAME, "ready")
    url = plane.seen(NAME).url
    first.end()

    settings.replica_host = "127.0.0.2"
    supervise()
    plane.wait_for(NAME, "ready")

    assert plane.seen(NAME).url == url
    assert plane.seen(NAME).restarts == 0


@pytest.mark.parametrize("host", ["", "http://replicas", "replicas:8000", "two words", "-x", "::1"])
def test_only_a_name_or_an_ipv4_address_is_taken(host, tmp_path):
    with pytest.raises(ValidationError, match="replica_host"):
        WorkerSettings(worker_token="token", node_dir=tmp_path, replica_host=host)
