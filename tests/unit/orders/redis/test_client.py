"""The connections: every server that refuses is left, whatever it says, and a name is kept."""

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from product_consumer.errors import StoreUnavailable
from product_consumer.orders.redis.client import RedisClient
from product_consumer.orders.redis.stats import RedisStats
from tests.support.forwarder import Forwarder

_COMMAND = re.compile(rb"^\*\d+\r", re.MULTILINE)


@contextlib.contextmanager
def refusing(error: str) -> Iterator[str]:
    """Yield the URL of a server that answers every command by this error."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                while received := connection.recv(65536):
                    commands = _COMMAND.findall(received) or [b"PING"]
                    connection.sendall(f"-{error}\r\n".encode() * len(commands))

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(
                        target=serve, args=(listener.accept()[0],), daemon=True
                    ).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    "error",
    [
        "READONLY You can't write against a read only replica.",
        "ERR Error running script (call to f_1): @user_script:1: -READONLY You can't write",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "LOADING Redis is loading the dataset in memory",
        "UNBLOCKED force unblock from blocking operation, instance state changed",
        "NOREPLICAS Not enough good replicas to write.",
        "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to",
        "BUSY Redis is busy running a script.",
        "OOM command not allowed when used memory > 'maxmemory'.",
        "CLUSTERDOWN Hash slot not served",
    ],
)
def test_a_server_that_refuses_is_left_for_the_one_that_the_name_leads_to_now(
    redis_url: str, error: str
) -> None:
    with (
        refusing(error) as refusing_url,
        Forwarder(refusing_url) as name,
        closing(
            RedisStats(f"redis://127.0.0.1:{name.port}", main_currency="USD", timeout_seconds=2)
        ) as stats,
    ):
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                stats.probe()
        name.lead_to(redis_url)

        stats.probe()


def test_connections_are_kept_where_they_are_what_is_scarce(redis_url: str) -> None:
    with closing(RedisClient(redis_url, timeout_seconds=2, connections=1)) as server:
        with server.connected() as first:
            only: Any = vars(first)["connection_pool"].get_connection()
            with pytest.raises(StoreUnavailable, match="onnections"), server.connected() as client:
                client.get("key")
            vars(first)["connection_pool"].release(only)
        with server.connected() as again:
            assert again is first
