"""Asks a port whether a Redis is there, and whether it wants TLS.

A Redis that waits for the rest of a command answers a TLS handshake by silence, and a TLS server
ends a connection that does not begin with one: redis-py reports both as an outage.
"""

import socket
import ssl

SECONDS = 1.0
"""Bound on each step: connect, answer, handshake."""

_PING = b"*1\r\n$4\r\nPING\r\n"
_REPLY_TYPES = b"+-:$*"
_PROTECTED = b"-DENIED"
_TLS_ALERT = b"\x15\x03"


def protocol_problem(host: str, port: int, *, is_tls: bool) -> str | None:
    """Return why no wait makes this port the expected Redis, where that is certain; else None."""
    try:
        answer = _answer(host, port)
        is_redis = answer[:1] != b"" and answer[:1] in _REPLY_TYPES
        if is_tls:
            return "the server there uses no TLS: write redis://" if is_redis else None
        if answer.startswith(_PROTECTED):
            return "the server there is in protected mode: it takes local connections only"
        if answer.startswith(_TLS_ALERT) or (not answer and _takes_tls(host, port)):
            return "the server there uses TLS: write rediss://"
        return None if is_redis or not answer else "what answers there is no Redis"
    except OSError:
        return None


def _answer(host: str, port: int) -> bytes:
    with socket.create_connection((host, port), SECONDS) as connection:
        try:
            connection.sendall(_PING)
            return connection.recv(64)
        except OSError:
            return b""


def _takes_tls(host: str, port: int) -> bool:
    context = ssl.create_default_context()
    # Nothing is sent: only whether there is a handshake counts.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection((host, port), SECONDS) as connection:
        try:
            context.wrap_socket(connection).close()
        except ssl.SSLError as error:
            return "alert" in str(error).lower()
    return True
