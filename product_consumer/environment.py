"""The environment of this process: the only module that reads and changes it."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dotenv import load_dotenv

from product_consumer.errors import ConfigurationError
from product_consumer.network.tls import check_certificates

_LOOPBACK = ("localhost", "127.0.0.1", "127.0.0.0/8", "::1", "[::1]")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
# gRPC reads the names in lower case only, and its own one first.
_NO_PROXY, _NO_GRPC_PROXY = ("no_proxy", "NO_PROXY"), "no_grpc_proxy"
_GRPC_CA_FILE = "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"
_POLLERS = frozenset({"all", "epoll1", "none", "poll"})
_NOT_OF_OPERATORS = frozenset({"HOME", "PWD", "OLDPWD", "_", "SHELL", "VIRTUAL_ENV", "PYTHONPATH"})
_CERTIFICATES = (
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    _GRPC_CA_FILE,
)


def read_environment(env_file: Path | None) -> dict[str, str]:
    """Return all variables; those of ``env_file`` are loaded first and never replace another.

    They are loaded into the environment, so that libraries with variables of their own (boto3's
    ``AWS_PROFILE``, ``HF_HOME``) find them there too. What every library must find is set right:
    loopback is never reached by a proxy. Raises ``ConfigurationError`` for a file that cannot be
    read, and for a variable that names unusable certificates.
    """
    if env_file is not None:
        _load(env_file)
    _keep_proxies_off_loopback()
    # gRPC prints to standard error for itself; its failures reach us as exceptions.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    for name in _CERTIFICATES:
        _check_certificates(name)
    _check_pollers()
    return dict(os.environ)


def _load(env_file: Path) -> None:
    try:
        load_dotenv(env_file, override=False)
    except UnicodeDecodeError:
        problem = "is not UTF-8 text: save it again in this encoding"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    except ValueError:
        problem = "has a NUL character"
    else:
        return
    raise ConfigurationError(str(env_file), problem) from None


def _keep_proxies_off_loopback() -> None:
    if not any(os.environ.get(name) or os.environ.get(name.upper()) for name in _PROXIES):
        return
    lower, upper = _NO_PROXY
    # The name in lower case wins where a library reads both.
    given = os.environ.get(lower) or os.environ.get(upper, "")
    os.environ[lower] = _with_loopback(given)
    os.environ[upper] = _with_loopback(os.environ.get(upper) or given)
    if os.environ.get(_NO_GRPC_PROXY):
        os.environ[_NO_GRPC_PROXY] = _with_loopback(os.environ[_NO_GRPC_PROXY])


def _with_loopback(no_proxy: str) -> str:
    hosts = [host.strip() for host in no_proxy.split(",") if host.strip()]
    # A star alone stands for every host; in a list it would be a name.
    if hosts == ["*"]:
        return no_proxy
    return ",".join([*hosts, *(host for host in _LOOPBACK if host not in hosts)])


def _check_certificates(name: str) -> None:
    value = os.environ.get(name, "")
    if not value:
        return
    try:
        # SSL_CERT_DIR may be a list of folders.
        for path in value.split(os.pathsep) if name == "SSL_CERT_DIR" else [value]:
            check_certificates(path)
    except ValueError as error:
        raise ConfigurationError(name, f"{value!r}: {error}") from None


def _check_pollers() -> None:
    # gRPC aborts the whole process where it knows none of them.
    given = os.environ.get("GRPC_POLL_STRATEGY", "")
    if given and not _POLLERS.intersection(given.split(",")):
        problem = f"{given!r}: needs one of {', '.join(sorted(_POLLERS))}"
        raise ConfigurationError("GRPC_POLL_STRATEGY", problem)


def provide_temporary_directory(fallback: Path) -> None:
    """See to it that there is a directory for temporary files, else make one: ``fallback``.

    Libraries and child processes find it in ``TMPDIR``. Raises ``ConfigurationError``.
    """
    try:
        tempfile.gettempdir()
    except OSError:
        pass
    else:
        return
    try:
        fallback.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = f"no directory for temporary files, and {fallback}: {error.strerror}"
        raise ConfigurationError("TMPDIR", problem) from None
    os.environ["TMPDIR"] = str(fallback)


def grpc_ca_file() -> str | None:
    """Return the file of certificates that gRPC trusts; None where it has the default."""
    return os.environ.get(_GRPC_CA_FILE) or None


def is_set(name: str) -> bool:
    """Whether a variable has a value, for a hint about a library's variable."""
    return bool(os.environ.get(name))


def variable_quoted_in(text: str, prefix: str, quote: str = "") -> str | None:
    """Return the variable that an error is about: a library quotes values, not names.

    Of several whose values are in ``text``, between ``quote``, it is the one with the longest.
    """
    quoted = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(prefix) and len(value) > 1 and f"{quote}{value}{quote}" in text
    }
    return max(quoted, key=lambda name: len(quoted[name]), default=None)


def variable_of_path(path: str) -> str | None:
    """Return the variable by which an operator named a path, or the folder that it is in."""
    named = {
        name: value
        for name, value in os.environ.items()
        if value.startswith("/") and f"{path}/".startswith(f"{value.rstrip('/')}/")
    }
    candidates = [name for name in named if name not in _NOT_OF_OPERATORS]
    return max(candidates, key=lambda name: len(named[name]), default=None)


@contextmanager
def variables(changes: Mapping[str, str]) -> Iterator[None]:
    """Change variables during the block: for a library that reads some when it is imported."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@dataclass(frozen=True, slots=True)
class SystemdEnvironment:
    """The variables that systemd sets for a service; empty and 0 without systemd."""

    notify_socket: str = ""
    watchdog_usec: int = 0


def read_systemd_environment() -> SystemdEnvironment:
    """Read ``NOTIFY_SOCKET`` and, where it is meant for this process, ``WATCHDOG_USEC``."""
    watchdog_usec = os.environ.get("WATCHDOG_USEC", "")
    is_ours = os.environ.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
    return SystemdEnvironment(
        os.environ.get("NOTIFY_SOCKET", ""),
        int(watchdog_usec) if is_ours and watchdog_usec.isdecimal() else 0,
    )


def child_environment(defaults: Mapping[str, str], changes: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a child process, ``.env`` included once it was read.

    ``changes`` win over the variables of this process, which win over ``defaults``.
    """
    return {**defaults, **os.environ, **changes}
