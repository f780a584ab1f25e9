"""pika, as it is used here: the only file that imports it."""

import logging
import ssl
import struct
from typing import Any

import pika
import pika.data
import pika.spec
from pika.adapters.select_connection import IOLoop, SelectConnection
from pika.channel import Channel
from pika.exceptions import AMQPError, ShortStringTooLong, UnsupportedAMQPFieldException

from product_consumer.queues.rabbitmq.amqp.lenient_headers import lenient_table, lenient_value
from product_consumer.queues.rabbitmq.url import Node

__all__ = [
    "GET_EMPTY",
    "UNWRITABLE",
    "AMQPError",
    "Channel",
    "Connection",
    "IOLoop",
    "Properties",
    "parameters",
]

Properties = pika.BasicProperties
GET_EMPTY = pika.spec.Basic.GetEmpty
"""The answer of a queue that has nothing."""
UNWRITABLE = (ShortStringTooLong, UnsupportedAMQPFieldException, struct.error)
"""Errors of properties that AMQP has no way to write."""

CONNECT_SECONDS = 5.0
HANDSHAKE_SECONDS = 15.0
HEARTBEAT_SECONDS = 20
_MAX_PIECE_BYTES = 262_144
_KEEPALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}

# pika logs every lost connection as an error with a traceback; it is told once, by its outage.
logging.getLogger("pika").setLevel(logging.CRITICAL + 1)
# It has no other place for this, and an error in it would end the I/O thread at every delivery.
pika.data.decode_value = lenient_value(pika.data.decode_value)  # type: ignore[assignment]
pika.data.decode_table = lenient_table(pika.data.decode_table)  # type: ignore[assignment]


class Connection(SelectConnection):
    """A connection that sends in one piece what was written in one turn of its loop.

    pika makes a system call for each frame: three for a message, one for an acknowledgement.
    """

    def __init__(self, *args: Any, **keywords: Any) -> None:
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._is_corked = False
        super().__init__(*args, **keywords)

    def cork(self, is_corked: bool) -> None:
        """Wait with what is written until this is called again with False."""
        self._is_corked = is_corked
        if not is_corked:
            self._send_unsent()

    def _adapter_emit_data(self, data: bytes) -> None:
        if not self._unsent and not self._is_corked:
            self._nbio.add_callback_threadsafe(self._send_unsent)  # type: ignore[attr-defined]
        self._unsent.append(data)
        self._unsent_bytes += len(data)
        if self._unsent_bytes >= _MAX_PIECE_BYTES:
            self._send_unsent()

    def _send_unsent(self) -> None:
        unsent, self._unsent, self._unsent_bytes = self._unsent, [], 0
        # Nothing is sent any more once the connection is gone.
        if unsent and self._transport is not None:  # type: ignore[attr-defined]
            super()._adapter_emit_data(b"".join(unsent))  # type: ignore[misc]


def parameters(node: Node, name: str) -> pika.ConnectionParameters:
    """Return how to connect to a node; raises ``OSError`` for files that cannot be read.

    ``name``: shown by the server's management page.
    """
    limit_ms = node.options.get("connection_timeout")
    limit_seconds = int(limit_ms) / 1000 if limit_ms else None
    return pika.ConnectionParameters(
        host=node.host,
        port=node.port,
        virtual_host=node.vhost,
        credentials=pika.PlainCredentials(node.user, node.password),
        heartbeat=int(node.options.get("heartbeat", HEARTBEAT_SECONDS)),
        socket_timeout=limit_seconds or CONNECT_SECONDS,
        stack_timeout=limit_seconds or HANDSHAKE_SECONDS,
        connection_attempts=1,
        ssl_options=_tls(node) if node.is_tls else None,
        client_properties={"connection_name": name, "product": "product-consumer"},
        tcp_options=_KEEPALIVE,
    )


def _tls(node: Node) -> pika.SSLOptions:
    options = node.options
    context = ssl.create_default_context(cafile=options.get("cacertfile"))
    if options.get("verify") == "verify_none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if "certfile" in options:
        context.load_cert_chain(options["certfile"], options["keyfile"])
    return pika.SSLOptions(context, options.get("server_name_indication", node.host))
