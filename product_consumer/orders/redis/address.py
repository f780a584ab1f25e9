"""``REDIS_URL``, checked before anything connects.

redis-py takes much for granted: a database that is no number is number 0, a missing host is this
machine, and an option that it does not know fails at the first call. A password that is not
percent-encoded is cut up, and its parts become host and database.

No problem told here quotes the URL: what looks like a host may be part of a password.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import SplitResult, parse_qsl, urlsplit

from product_consumer.errors import ConfigurationError
from product_consumer.orders.redis.errors import SETTING

SERVER_SCHEMES = ("redis", "rediss")
SENTINEL_SCHEMES = ("redis+sentinel", "rediss+sentinel")
SOCKET_SCHEME = "unix"
SERVER_PORT, SENTINEL_PORT = 6379, 26379

SENTINEL_FORM = "redis+sentinel://host:26379,host:26379/<service>"
_SCHEMES = f"redis://, rediss://, unix:// or {SENTINEL_FORM}"
_ENCODE = "percent-encode the user and the password: @ is %40, / is %2F, # is %23, ? is %3F"

_HOST = re.compile(r"[\w.:%-]+")
_OPTIONS = {
    *("db", "username", "password", "client_name", "protocol", "max_connections"),
    *("socket_timeout", "socket_connect_timeout", "socket_keepalive", "socket_read_size"),
    *("health_check_interval", "retry_on_timeout"),
}
_TIMEOUTS = ("socket_timeout", "socket_connect_timeout")
_SENTINEL_OPTIONS = {"sentinel_username", "sentinel_password"}
_TLS_OPTION = re.compile(r"ssl_[a-z_]+")
_MAX_SECONDS = 30
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where Redis is."""

    url: str
    """What redis-py reads: for a service of Sentinels, the URL without them."""
    hosts: tuple[tuple[str, int], ...]
    """The server, or the Sentinels; empty for a socket file."""
    is_tls: bool = False
    has_certificate: bool = False
    """Whether a certificate of ours is shown to the server."""
    service: str | None = None
    """The name by which the Sentinels know the servers."""
    sentinel_login: tuple[tuple[str, str], ...] = ()
    """``username`` and ``password`` for the Sentinels themselves, as far as they are given."""


def read_address(url: str) -> RedisAddress:
    """Return a checked ``REDIS_URL``; raises ``ConfigurationError``."""
    url = url.strip()
    scheme = url.partition("://")[0] if "://" in url else ""
    if scheme not in (*SERVER_SCHEMES, *SENTINEL_SCHEMES, SOCKET_SCHEME):
        if "sentinel" in scheme.lower():
            _refuse(f"Sentinels are named as {SENTINEL_FORM}")
        _refuse(f"needs {_SCHEMES}")
    parts = _split(url)
    if scheme == SOCKET_SCHEME:
        _check_socket(parts)
        return RedisAddress(url, ())
    user, _, place = parts.netloc.rpartition("@")
    options = _checked_options(parts, is_tls=scheme.startswith("rediss"))
    if scheme in SENTINEL_SCHEMES:
        return _sentinels(parts, user, place, options)
    if "," in place or ";" in place:
        _refuse(f"names several servers: name one, or Sentinels as {SENTINEL_FORM}")
    host = _host_and_port(place, SERVER_PORT)
    _check_database(parts.path)
    return RedisAddress(url, (host,), scheme == "rediss", "ssl_certfile" in options)


def _sentinels(parts: SplitResult, user: str, place: str, options: dict[str, str]) -> RedisAddress:
    service, _, database = parts.path.strip("/").partition("/")
    if not service:
        _refuse(f"names no service: write {SENTINEL_FORM}")
    _check_database(database)
    hosts = tuple(_host_and_port(host, SENTINEL_PORT) for host in re.split("[,;]", place))
    scheme = parts.scheme.partition("+")[0]
    query = "&".join(one for one in parts.query.split("&") if not one.startswith("sentinel_"))
    # The host is none that is asked: the Sentinels name the server.
    url = f"{scheme}://{user}{'@' if user else ''}sentinels/{database}?{query}"
    login = tuple(
        (name.removeprefix("sentinel_"), value)
        for name, value in options.items()
        if name in _SENTINEL_OPTIONS
    )
    return RedisAddress(url, hosts, scheme == "rediss", service=service, sentinel_login=login)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:
        # Its text may quote the password.
        _refuse(f"is no URL; {_ENCODE}")
    bare = [one for one in parts.query.split("&") if "=" not in one]
    is_cut = parts.scheme != SOCKET_SCHEME and any("@" in one for one in (parts.path, *bare))
    if is_cut or "#" in url or "@" in "".join(name for name, _ in parse_qsl(parts.query)):
        _refuse(f"cannot be read; {_ENCODE}")
    return parts


def _host_and_port(place: str, default_port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{place}")
        host, port = parts.hostname or "", parts.port
        host.encode("idna")
    except UnicodeError:
        _refuse("the host is no name that can be looked up")
    except ValueError:
        _refuse(f"the port must be a number from 1 to 65535; {_ENCODE}")
    if not host:
        _refuse(f"names no host; {_ENCODE}")
    if not _HOST.fullmatch(host):
        _refuse(f"the host is no name that can be looked up; {_ENCODE}")
    if port == 0:
        _refuse("the port must be a number from 1 to 65535")
    return host, port or default_port


def _check_database(path: str) -> None:
    database = path.strip("/")
    if database and not (database.isascii() and database.isdecimal()):
        _refuse(f"what follows the host must be the number of a database; {_ENCODE}")


def _check_socket(parts: SplitResult) -> None:
    path = Path(parts.path)
    if parts.netloc.rpartition("@")[2] or not path.is_absolute():
        _refuse("needs the path of a socket behind unix://, such as unix:///run/redis.sock")
    if path.exists() and not path.is_socket():
        _refuse("the path behind unix:// is no socket")
    _checked_options(parts, is_tls=False)


def _checked_options(parts: SplitResult, *, is_tls: bool) -> dict[str, str]:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    known = _OPTIONS | (_SENTINEL_OPTIONS if parts.scheme in SENTINEL_SCHEMES else set())
    for name, value in options.items():
        if not (name in known or (is_tls and _TLS_OPTION.fullmatch(name))):
            # With an @ behind it, it is the rest of a password.
            is_cut = "@" in parts.query
            _refuse(_ENCODE if is_cut else f"its option {name[:40]!r} is not known here")
        if name in _TLS_FILES:
            _check_file(name, value)
        if name in _TIMEOUTS and not _is_bound(value):
            _refuse(
                f"its option {name} must be a number of seconds above 0, at most {_MAX_SECONDS}"
            )
    return options


def _is_bound(seconds: str) -> bool:
    try:
        return 0 < float(seconds) <= _MAX_SECONDS
    except ValueError:
        return False


def _check_file(option: str, path: str) -> None:
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        _refuse(f"the file of its option {option} cannot be read: {error.strerror}")


def _refuse(problem: str) -> NoReturn:
    raise ConfigurationError(SETTING, problem) from None
