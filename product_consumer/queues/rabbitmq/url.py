"""The URL of a queue on RabbitMQ: ``amqp://user:password@host:5672/vhost?queue=NAME``.

Several URLs separated by commas are nodes of one cluster, tried in turn. No problem told here
quotes the URL: it holds a password, and a part of one may look like a host.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from product_consumer.errors import ConfigurationError
from product_consumer.network.addresses import check_host

EXAMPLE = "amqp://user:password@host:5672/vhost?queue=NAME"
PORT, TLS_PORT = 5672, 5671
MAX_NAME_BYTES = 255
"""Of a queue or a virtual host: a short string of AMQP."""

_DEFAULT_LOGIN = "guest"
_DEFAULT_VHOST = "/"
_NODES = re.compile(r",\s*(?=amqps?://)", re.IGNORECASE)
_NUMBERS = {"heartbeat": (0, 3600), "connection_timeout": (1, 60_000)}
_FILES = ("cacertfile", "certfile", "keyfile")
_VERIFY = ("verify_peer", "verify_none")
_OPTIONS = (*_NUMBERS, *_FILES, "verify", "server_name_indication")
_ENCODE = "percent-encode the user and the password: @ is %40, / is %2F, # is %23, ? is %3F"


@dataclass(frozen=True, slots=True)
class Node:
    """A server that may be connected to."""

    host: str
    port: int
    is_tls: bool
    user: str
    password: str = field(repr=False)
    vhost: str
    options: Mapping[str, str] = field(default_factory=dict)
    """RabbitMQ's own: ``heartbeat`` (s), ``connection_timeout`` (ms), ``cacertfile`` ..."""

    @property
    def address(self) -> str:
        """Without a login: ``host:5672``, for log lines."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class AmqpUrl:
    """A queue, and the nodes of the cluster that has it, at least one."""

    nodes: tuple[Node, ...]
    queue: str
    setting: str
    """The setting or option that named them, for errors."""

    @property
    def shown(self) -> str:
        """The URL without passwords, for a person; options of a node are left out."""
        urls = []
        for node in self.nodes:
            scheme = "amqps" if node.is_tls else "amqp"
            user, vhost = quote(node.user, safe=""), quote(node.vhost, safe="")
            urls.append(f"{scheme}://{user}:***@{node.address}/{vhost}")
        return f"{','.join(urls)}?queue={quote(self.queue, safe='')}"

    def with_queue(self, name: str) -> "AmqpUrl":
        """Return another queue of the same server; raises ``ConfigurationError`` for no name."""
        return replace(self, queue=_checked_name(name, self.setting))


def read_url(text: str, setting: str, queue: str | None = None) -> AmqpUrl:
    """Read a URL; ``queue`` names the queue where the URL need not.

    Raises ``ConfigurationError`` that names ``setting`` for what no server could make sense of.
    """
    nodes: list[Node] = []
    names: set[str] = set()
    for part in _NODES.split(text.strip()):
        node, named = _read_node(part, setting)
        nodes.append(node)
        names |= {named} if named is not None else set()
    if queue is not None:
        names.add(queue)
    if len(names) > 1:
        _refuse(setting, "names two queues")
    if not names:
        _refuse(setting, f"names no queue: needs {EXAMPLE}")
    return AmqpUrl(tuple(nodes), _checked_name(names.pop(), setting), setting)


def read_server(text: str, setting: str, queue: str, *, user: str, password: str) -> AmqpUrl:
    """Read ``host``, ``host:port`` or a whole URL; the login is used where none is written.

    Raises ``ConfigurationError`` as ``read_url``.
    """
    if "://" in text:
        return read_url(text, setting, queue)
    parts = _split(f"amqp://{text.strip()}", setting)
    if parts.path or parts.query or parts.fragment or "@" in parts.netloc:
        _refuse(setting, f"needs a host, host:port or {EXAMPLE}")
    host, port = _host_and_port(parts, setting)
    node = Node(host, port or PORT, False, user, password, _DEFAULT_VHOST)
    return AmqpUrl((node,), _checked_name(queue, setting), setting)


def _read_node(text: str, setting: str) -> tuple[Node, str | None]:
    parts = _split(text, setting)
    scheme = parts.scheme.lower()
    if scheme not in ("amqp", "amqps") or "://" not in text:
        _refuse(setting, f"needs {EXAMPLE}, or amqps:// for TLS")
    if "#" in text:
        _refuse(setting, f"has a '#': {_ENCODE}")
    is_tls = scheme == "amqps"
    host, port = _host_and_port(parts, setting)
    query = _read_query(parts.query, setting)
    queue = query.pop("queue", None)
    node = Node(
        host,
        port or (TLS_PORT if is_tls else PORT),
        is_tls,
        user=_DEFAULT_LOGIN if parts.username is None else unquote(parts.username),
        password=_DEFAULT_LOGIN if parts.password is None else unquote(parts.password),
        vhost=_read_vhost(parts.path, setting),
        options=_checked_options(query, setting, is_tls=is_tls),
    )
    return node, queue


def _split(text: str, setting: str) -> SplitResult:
    # urlsplit drops tabs and line breaks without a word.
    if re.search(r"[\s\x00-\x1f\x7f]", text):
        _refuse(setting, f"has a space or a control character: {_ENCODE}")
    try:
        return urlsplit(text)
    except ValueError:
        _refuse(setting, f"needs {EXAMPLE}")


def _host_and_port(parts: SplitResult, setting: str) -> tuple[str, int | None]:
    if "@" in parts.netloc.rpartition("@")[0] or "@" in parts.path:
        _refuse(setting, f"has an '@' too many: {_ENCODE}")
    try:
        port = parts.port
    except ValueError:
        _refuse(setting, "needs a port from 1 to 65535")
    if port == 0:
        _refuse(setting, "needs a port from 1 to 65535")
    try:
        return check_host(parts.hostname or ""), port
    except ValueError as error:
        _refuse(setting, f"{error}: needs {EXAMPLE}")


def _read_vhost(path: str, setting: str) -> str:
    name = path.removeprefix("/")
    if "/" in name:
        _refuse(setting, "has a '/' too many: in the name of a virtual host it is %2F")
    vhost = unquote(name) or _DEFAULT_VHOST
    if len(vhost.encode()) > MAX_NAME_BYTES:
        _refuse(setting, f"names a virtual host of over {MAX_NAME_BYTES} bytes")
    return vhost


def _read_query(query: str, setting: str) -> dict[str, str]:
    pairs = parse_qsl(query, keep_blank_values=True)
    names = [name for name, _ in pairs]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        _refuse(setting, "has a parameter twice")
    return dict(pairs)


def _checked_options(options: dict[str, str], setting: str, *, is_tls: bool) -> dict[str, str]:
    for name, value in options.items():
        if name not in _OPTIONS:
            known = ", ".join(("queue", *_OPTIONS))
            _refuse(setting, f"has a parameter that is none of {known}")
        if name in _NUMBERS:
            least, most = _NUMBERS[name]
            if not (value.isascii() and value.isdecimal() and least <= int(value[:9]) <= most):
                _refuse(setting, f"{name} needs a whole number from {least} to {most}")
        elif not is_tls:
            _refuse(setting, f"{name} needs amqps://")
        elif name in _FILES and not Path(value).is_file():
            _refuse(setting, f"{name} names no file")
        elif name == "verify" and value not in _VERIFY:
            _refuse(setting, f"verify needs {' or '.join(_VERIFY)}")
    if ("certfile" in options) != ("keyfile" in options):
        _refuse(setting, "certfile and keyfile belong together")
    return options


def _checked_name(name: str, setting: str) -> str:
    try:
        size_bytes = len(name.encode())
    except UnicodeEncodeError:
        size_bytes = 0
    if not 1 <= size_bytes <= MAX_NAME_BYTES or not name.isprintable():
        _refuse(setting, f"needs a queue name of 1 to {MAX_NAME_BYTES} printable bytes")
    if name.startswith("amq."):
        _refuse(setting, "names a queue that begins with 'amq.', which RabbitMQ keeps for itself")
    return name


def _refuse(setting: str, problem: str) -> NoReturn:
    raise ConfigurationError(setting, problem)
