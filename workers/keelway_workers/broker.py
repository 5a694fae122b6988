"""Kombu's Redis transport, with an acknowledgement that cannot make a worker deaf."""

from __future__ import annotations

import kombu.transport
from kombu.transport import TRANSPORT_ALIASES, redis, virtual


def use_forgiving_transport() -> None:
    """Have every Redis URL of this process, over TCP, TLS or a socket, lead to the transport of this module."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:Transport"
        # Kombu looks a name up once, and a connection that was made before this call has had it looked up.
        kombu.transport._transport_cache.pop(scheme, None)


class QoS(redis.QoS):
    """Counts a message as dealt with as soon as the worker has dealt with it, whether Redis heard of it or not.

    Kombu counts it only once Redis has answered. Every acknowledgement that falls into the restart of a Redis then
    takes one place of the prefetch for good, and when the last is taken the worker hears nothing any more. What Redis
    still holds of such a message is rung again later, and the claim turns it away.
    """

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge; a Redis that is away raises its error, but the place is free."""
        try:
            super().ack(delivery_tag)
        except Exception:
            virtual.QoS.ack(self, delivery_tag)
            raise


class Channel(redis.Channel):
    """A channel with that count."""

    QoS = QoS


class Transport(redis.Transport):
    """A transport with that channel."""

    Channel = Channel
