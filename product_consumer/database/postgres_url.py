"""The URL of a PostgreSQL server, read as libpq and SQLAlchemy read it, with our own defaults.

What the URL says is never replaced. Nor is what the environment says to libpq, such as PGOPTIONS.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq import Conninfo
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from product_consumer.errors import ConfigurationError

# A login ends at the first "@", as SQLAlchemy has it. With a port before it, there is no login.
_URL = re.compile(
    r"(?P<scheme>[^:/]+)://(?P<login>(?![^:/@]*:[0-9]+/)[^:/@]*(?::[^@]*)?@)?"
    r"(?P<hosts>[^/?]*)(?P<rest>.*)",
    re.DOTALL,
)
_HOST = re.compile(r"(?P<host>\[[^\]]*\]|[^:]*)(?::(?P<port>[0-9]*))?")
_IPV6 = re.compile(r"[0-9a-fA-F]*:[0-9a-fA-F.]*:[0-9a-fA-F:.]*(%.*)?")
_KEEPALIVES: Final = {
    # A server that vanished without a word is left after 30 seconds.
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
}
_SECRETS = ("sslpassword", "oauth_client_secret", "scram_client_key")


@dataclass(frozen=True, slots=True)
class PostgresUrl:
    """What ``DATABASE_URL`` says about a PostgreSQL server."""

    parameters: Mapping[str, str]
    """Parameters of libpq, with our defaults where neither the URL nor the environment has any."""
    is_target_given: bool
    """Whether it is said which servers will do: any, or only one that can be written to."""
    prepares_after: int | None
    """After how many uses a statement is prepared, 0 for never; None where the URL does not say."""
    address: str
    """The URL without its passwords."""


def read_postgres_url(text: str, timeout_seconds: float) -> PostgresUrl:
    """Raises ``ConfigurationError`` for what no server could make sense of."""
    parsed, hosts = _without_hosts(text)
    parameters = _parameters(parsed)
    hosts = _hosts_of(parameters, hosts)
    if any(host for host, _ in hosts):
        parameters["host"] = ",".join(host for host, _ in hosts)
    if any(port for _, port in hosts):
        parameters["port"] = ",".join(port for _, port in hosts)
    prepares_after = _read_threshold(parameters.pop("prepare_threshold", None))
    address = _address(parsed, parameters)
    defaults = _defaults(_count_hosts(parameters), timeout_seconds)
    given = _from_environment() | parameters.keys()
    parameters |= {name: value for name, value in defaults.items() if name not in given}
    parameters["client_encoding"] = _read_encoding(parameters.get("client_encoding", "UTF8"))
    try:
        make_conninfo("", **parameters)
    except psycopg.ProgrammingError as error:
        raise _problem(str(error).strip()) from None
    is_target_given = "target_session_attrs" in given | parameters.keys()
    return PostgresUrl(parameters, is_target_given, prepares_after, address)


def options_of(parameters: Mapping[str, str]) -> dict[str, str]:
    """Return the settings in ``options``, or else in PGOPTIONS, by their name.

    Raises ``ConfigurationError`` for anything else in them.
    """
    text = parameters.get("options") or _from_libpq("options") or ""
    settings: dict[str, str] = {}
    words = iter(_split(text))
    for word in words:
        assignment = next(words, "") if word == "-c" else word.removeprefix("-c")
        if word.startswith("--"):
            assignment = word.removeprefix("--")
        name, equals, value = assignment.partition("=")
        if not equals or not word.startswith(("-c", "--")):
            raise _problem(f"a connection pooler cannot take these options: {text}")
        settings[name.replace("-", "_").lower()] = value
    return settings


def _without_hosts(text: str) -> tuple[URL, list[tuple[str, str]]]:
    """Split the URL into the parts around its hosts, and hosts with their ports.

    SQLAlchemy cannot read several hosts before the path, which libpq can.
    """
    match = _URL.fullmatch(text)
    if match is None:
        raise _problem("is not a database URL")
    if "@" in match["hosts"]:
        raise _problem("has two @: one in a password is written as %40")
    rest = match["rest"] if match["rest"].startswith("/") else "/" + match["rest"]
    try:
        url = make_url(f"{match['scheme']}://{match['login'] or ''}{rest}")
    except (ArgumentError, ValueError):
        raise _problem("is not a database URL") from None
    names = match["hosts"].split(",") if match["hosts"] else []
    return url, [_host_and_port(unquote(name)) for name in names]


def _parameters(url: URL) -> dict[str, str]:
    """Return libpq's parameters; several values of ``host`` and ``port`` are joined by commas."""
    named = {"user": url.username, "password": url.password, "dbname": url.database}
    parameters = {name: str(value) for name, value in named.items() if value}
    for name, value in url.query.items():
        if not isinstance(value, str) and name not in ("host", "port"):
            raise _problem(f"{name!r} is there twice")
        parameters[name] = value if isinstance(value, str) else ",".join(value)
    return parameters


def _hosts_of(
    parameters: Mapping[str, str], in_authority: list[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Return hosts with their ports; those of the query win."""
    hosts = in_authority
    if "host" in parameters:
        hosts = [_host_and_port(host) for host in parameters["host"].split(",")]
    ports = parameters.get("port", "").split(",")
    if ports == [""]:
        # A port alone before the path is meant for the hosts of the query.
        ports = [port for host, port in in_authority if not host][:1]
    for port in ports:
        _check_port(port)
    if not hosts or not any(ports):
        return hosts
    if len(ports) not in (1, len(hosts)):
        raise _problem(f"has {len(hosts)} hosts and {len(ports)} ports")
    if len(ports) == 1:
        ports *= len(hosts)
    return [(host, port or own) for (host, own), port in zip(hosts, ports, strict=True)]


def _host_and_port(text: str) -> tuple[str, str]:
    """Split ``host:port``; a path of a socket and a bare IPv6 address have no port."""
    if text.startswith(("/", "@")) or _IPV6.fullmatch(text):
        return text, ""
    match = _HOST.fullmatch(text)
    if match is None:
        raise _problem("has a port that is no number from 1 to 65535")
    port = match["port"] or ""
    _check_port(port)
    return match["host"].strip("[]"), port


def _check_port(port: str) -> None:
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise _problem("has a port that is no number from 1 to 65535")


def _count_hosts(parameters: Mapping[str, str]) -> int:
    named = (parameters.get(name) or _from_libpq(name) or "" for name in ("host", "hostaddr"))
    return max(text.count(",") + 1 for text in named)


def _defaults(host_count: int, timeout_seconds: float) -> dict[str, str]:
    # All hosts together get the time of one call.
    connect_seconds = max(2, int(timeout_seconds / host_count))
    defaults = {
        "connect_timeout": str(connect_seconds),
        "tcp_user_timeout": str(int(timeout_seconds * 1000)),
        **_KEEPALIVES,
    }
    if host_count > 1:
        defaults["target_session_attrs"] = "read-write"
    return defaults


def _read_threshold(text: str | None) -> int | None:
    if text is None:
        return None
    # 0 means "at once" to this driver and "never" to others. Never is right everywhere.
    if text.strip().lower() in ("none", "0"):
        return 0
    if not (text.isascii() and text.isdigit()):
        raise _problem(f"prepare_threshold is {text!r}: needs a number, or none for never")
    return int(text)


def _read_encoding(text: str) -> str:
    if re.sub("[^a-z0-9]", "", text.lower()) not in ("utf8", "unicode"):
        raise _problem(f"client_encoding is {text!r}: needs UTF8")
    return "UTF8"


def _address(url: URL, parameters: Mapping[str, str]) -> str:
    """Return the URL as it is shown. SQLAlchemy hides the password; several hosts go last."""
    named = {"user", "password", "dbname"}
    host, port = parameters.get("host"), parameters.get("port")
    if host is None or "," not in host:
        named |= {"host", "port"}
    query = {name: value for name, value in parameters.items() if name not in named}
    query |= {name: "***" for name in _SECRETS if name in query}
    return URL.create(
        url.drivername,
        parameters.get("user"),
        parameters.get("password"),
        host if "host" in named else None,
        int(port) if port and "port" in named else None,
        parameters.get("dbname"),
        query,
    ).render_as_string()


def _from_environment() -> set[str]:
    """Return the names of the parameters that the environment sets."""
    return {
        option.keyword.decode()
        for option in Conninfo.get_defaults()
        if option.val is not None and option.val != option.compiled
    }


def _from_libpq(name: str) -> str | None:
    values = {option.keyword: option.val for option in Conninfo.get_defaults()}
    value = values.get(name.encode())
    return None if value is None else value.decode(errors="replace")


def _split(options: str) -> Iterable[str]:
    """Split at white space, as the server does: a backslash keeps the next character."""
    words = re.findall(r"(?:\\.|[^\s\\])+", options, re.DOTALL)
    return [re.sub(r"\\(.)", r"\1", word, flags=re.DOTALL) for word in words]


def _problem(problem: str) -> ConfigurationError:
    return ConfigurationError("DATABASE_URL", problem)
