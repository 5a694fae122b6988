"""Celery as a doorbell: a message says that an operation waits, everything else is the API's."""

from __future__ import annotations

from typing import Any

from celery import Celery
from kombu.entity import Queue

from keelway_workers.broker import use_forgiving_transport

SHARED_QUEUE = "keelway"
RING = "keelway.ring"


def node_queue(node: str) -> str:
    """The queue that only this node hears."""
    return f"node.{node}"


def create_app(broker_url: str, *, node: str | None = None, concurrency: int = 2) -> Celery:
    """The Celery application: ids in, nothing out. With a `node` it hears the shared queue and the node's own."""
    use_forgiving_transport()
    app = Celery("keelway", broker=broker_url, set_as_current=False)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        result_backend=None,
        task_ignore_result=True,
        task_default_queue=SHARED_QUEUE,
        task_queues=[Queue(SHARED_QUEUE), *([Queue(node_queue(node))] if node else [])],
        task_create_missing_queues=node is None,
        task_publish_retry_policy={"max_retries": 1},
        # Delivery again is the API's business: it knows the lease. A message is gone as soon as it was heard.
        task_acks_late=False,
        task_reject_on_worker_lost=False,
        worker_prefetch_multiplier=1,
        worker_concurrency=concurrency,
        worker_max_tasks_per_child=50,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_soft_shutdown_timeout=5.0,
        # Concerns late acknowledgement only, of which there is none; unset it warns at every lost connection.
        worker_cancel_long_running_tasks_on_connection_loss=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options=transport_options(),
    )
    return app


def transport_options() -> dict[str, Any]:
    """Limits for every wait on Redis: without them a half-open connection is waited for until the kernel gives up."""
    return {
        "socket_timeout": 10,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 10,
    }
