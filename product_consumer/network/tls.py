"""Why a connection by TLS fails, and which files of certificates can be used."""

import socket
import ssl
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from product_consumer.refusals import TLS_ONLY

_SECONDS = 3.0


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and everything behind it, as far as the libraries kept it."""
    waiting, seen = [error], set[int]()
    while waiting:
        current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        behind = [current.__cause__, current.__context__, getattr(current, "reason", None)]
        behind += [*current.args, *(getattr(current, "errors", None) or ())]
        waiting += [cause for cause in behind if isinstance(cause, BaseException)]


def cause_in_words(error: BaseException) -> str:
    """Return what OpenSSL or the system said, such as ``Connection refused``; empty for neither.

    Libraries leave it out of their own messages.
    """
    found = list(causes_of(error))
    for cause in found:
        # urllib3's own error for a certificate of another host is no error of OpenSSL.
        if isinstance(cause, ssl.SSLError) or type(cause).__name__ == "CertificateError":
            return str(cause.args[-1]) if cause.args else "TLS failed"
    words = (cause.strerror or str(cause) for cause in found if isinstance(cause, OSError))
    return next(filter(None, words), "")


def why_tls_fails(host: str, port: int, ca_file: str | None = None) -> str:
    """Return why a server cannot be asked by TLS; empty where it can, or does not answer now.

    ``ca_file``: the certificates to trust; None means those of this machine.
    """
    try:
        _shake_hands(host, port, ssl.create_default_context(cafile=ca_file))
    except ssl.SSLError as error:
        return str(error.args[-1])
    except OSError:
        return ""
    return ""


def why_plain_fails(host: str, port: int) -> str:
    """Return ``TLS_ONLY`` where a server that was asked without TLS has it; else nothing."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        _shake_hands(host, port, context)
    except OSError:
        return ""
    return TLS_ONLY


def clock_is_set() -> bool:
    """Whether the time of this machine can be right: it is later than when we were installed."""
    return time.time() > Path(__file__).stat().st_mtime


def _shake_hands(host: str, port: int, context: ssl.SSLContext) -> None:
    with (
        socket.create_connection((host, port), timeout=_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=host),
    ):
        pass


@lru_cache(maxsize=16)
def _load_certificates(path: str, _mtime_ns: int, _size: int) -> None:
    """Load a file of certificates, once: several variables name the same one, of hundreds."""
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)


def check_certificates(path: str) -> str:
    """Return the path of a file or folder of CA certificates; raise ``ValueError`` if unusable."""
    file = Path(path)
    try:
        if file.is_dir():
            next(file.iterdir(), None)
            return path
        status = file.stat()
        _load_certificates(path, status.st_mtime_ns, status.st_size)
    except ssl.SSLError:
        raise ValueError("the file has no certificate in PEM form") from None
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    return path
