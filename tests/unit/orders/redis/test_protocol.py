"""What a port answers: a Redis, with or without TLS, or something else."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from product_consumer.orders.redis.protocol import protocol_problem
from tests.support.certificates import make_certificate


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """Yield the port of a server that answers every connection by these bytes and closes it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(1024)
                        connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        yield int(listener.getsockname()[1])


@pytest.mark.parametrize("answer", [b"+PONG\r\n", b"-NOAUTH Authentication required.\r\n", b""])
def test_a_redis_and_a_silent_port_are_no_problem(answer: bytes) -> None:
    with answering(answer) as port:
        assert protocol_problem("127.0.0.1", port, is_tls=False) is None


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9\r\n", b"<!DOCTYPE HTML>"]
)
def test_what_is_no_redis_is_told(answer: bytes) -> None:
    with answering(answer) as port:
        assert "no Redis" in str(protocol_problem("127.0.0.1", port, is_tls=False))


def test_tls_to_a_redis_without_tls_is_told() -> None:
    with answering(b"+PONG\r\n") as port:
        assert "redis://" in str(protocol_problem("127.0.0.1", port, is_tls=True))


def test_a_redis_in_protected_mode_is_told() -> None:
    with answering(b"-DENIED Redis is running in protected mode because ...\r\n") as port:
        assert "protected mode" in str(protocol_problem("127.0.0.1", port, is_tls=False))


def test_no_tls_to_a_server_that_wants_it_is_told(tmp_path: Path) -> None:
    context, _ = make_certificate(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    context.wrap_socket(listener.accept()[0], server_side=True).close()
                except ValueError:
                    return
                except OSError:
                    continue

        threading.Thread(target=serve, daemon=True).start()
        port = listener.getsockname()[1]
        assert "rediss://" in str(protocol_problem("127.0.0.1", port, is_tls=False))
        assert protocol_problem("127.0.0.1", port, is_tls=True) is None


def test_a_port_that_nobody_listens_on_is_no_problem() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert protocol_problem("127.0.0.1", port, is_tls=False) is None


def test_a_name_that_is_not_known_yet_is_no_problem() -> None:
    assert protocol_problem("redis.invalid", 6379, is_tls=False) is None
