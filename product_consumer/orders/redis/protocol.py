"""Asks a port whether a Redis is there, and whether it wants TLS.

A Redis that waits for the rest of a command answers a TLS handshake by silence, and a TLS server
ends a connection that does not begin with one: redis-py reports both as an outage.
"""

import contextlib
import socket
import ssl

SECONDS = 1.0
"""Bound on each step: connect, answer, handshake."""

_ALERT_SECONDS = 0.3
# Without arguments, and one line: a server that reads lines has read all of it.
_PING = b"PING\r\n"
_REPLY_TYPES = b"+-:$*"
_PROTECTED = b"-DENIED"
_NO_CERTIFICATE = ("certificate required", "handshake failure")
_TLS_ALERT = b"\x15\x03"


def protocol_problem(
    host: str, port: int, *, is_tls: bool, has_certificate: bool = False
) -> str | None:
    """Return why no wait makes this port the expected Redis, where that is certain; else None.

    ``has_certificate``: whether we shall show the server a certificate of our own.
    """
    try:
        answer = _answer(host, port)
        is_redis = answer[:1] != b"" and answer[:1] in _REPLY_TYPES
        if is_tls:
            if is_redis:
                return "the server there uses no TLS: write redis://"
            return None if has_certificate else _certificate_problem(host, port)
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
    try:
        _ask_by_tls(host, port)
    except ssl.SSLError as error:
        return _is_alert(error)
    return True


def _certificate_problem(host: str, port: int) -> str | None:
    try:
        _ask_by_tls(host, port)
    except ssl.SSLError as error:
        if _is_alert(error) and any(words in str(error).lower() for words in _NO_CERTIFICATE):
            return "the server there wants a certificate: give ssl_certfile and ssl_keyfile in it"
    return None


def _ask_by_tls(host: str, port: int) -> None:
    """Raise ``ssl.SSLError`` unless there is a handshake that the server keeps to."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((host, port), SECONDS) as connection,
        context.wrap_socket(connection) as by_tls,
        contextlib.suppress(TimeoutError, ConnectionError),
    ):
        # A server that misses a certificate of ours says so after the handshake. Nothing is sent:
        # a server that closes before it has read everything takes back what it said.
        by_tls.settimeout(_ALERT_SECONDS)
        by_tls.recv(64)


def _is_alert(error: ssl.SSLError) -> bool:
    return "alert" in str(error).lower()
