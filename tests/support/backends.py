"""Starts real servers on free loopback ports, inside and outside pytest.

Each ``start_...`` returns a running ``Backend``, a context manager. On leaving it, or when Python
exits, the server's whole process group ends and its files are removed. Raises ``MissingTool`` when
a program is not installed, and ``StartFailed`` with the end of the server's log when the server
does not come up.
"""

import atexit
import contextlib
import http.client
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import sqlalchemy

from tests.support.tools import MissingTool, require

SERVERS = Path(__file__).resolve().parent / "servers"
# The first start of a Java server collects its jars; later ones take seconds.
START_SECONDS = 300.0
STOP_SECONDS = 10.0
LOG_LINES_SHOWN = 40
# The Go distribution does not add it to PATH.
GO_PROGRAMS = Path("/usr/local/go/bin")
# Debian keeps each major version in a directory of its own.
POSTGRES_VERSIONS = Path("/usr/lib/postgresql")
# Debian leaves /usr/sbin, where RabbitMQ's command is, out of a user's PATH.
RABBITMQ_PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
JAVA_HINT = "a JDK from 17 on, and Maven"

_NGINX = """
daemon off;
# One process, which stays the user it was started by: it may read its caller's directories.
master_process off;
pid {scratch}/pid;
error_log stderr warn;
events {{ worker_connections 512; }}
http {{
    log_format only_status $status;
    access_log {log};
    types {{ image/jpeg jpg; }}
    sendfile on;
    tcp_nopush on;
    client_body_temp_path {scratch}/body;
    proxy_temp_path {scratch}/proxy;
    fastcgi_temp_path {scratch}/fastcgi;
    uwsgi_temp_path {scratch}/uwsgi;
    scgi_temp_path {scratch}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root "{root}";
    }}
}}
"""


class StartFailed(Exception):
    """Raised when a server ends, or does not respond in time."""


class Backend:
    """One running server: ``url`` for clients, ``process`` for faults."""

    def __init__(
        self,
        url: str,
        process: subprocess.Popen[bytes],
        scratch: Path,
        stop_signal: signal.Signals,
    ) -> None:
        self.url = url
        self.process = process
        self._scratch = scratch
        self._stop_signal = stop_signal
        atexit.register(self.stop)

    def pause(self) -> None:
        """Freeze the server: it keeps its connections and does not respond."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Undo ``pause``."""
        os.killpg(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End the server at once, as a crash would; the caller's own data directory stays."""
        _signal_group(self.process, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """End the server, gently first; may be called again."""
        _end(self.process, self._stop_signal)
        shutil.rmtree(self._scratch, ignore_errors=True)
        atexit.unregister(self.stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def start_elasticmq(store_dir: Path | None = None, port: int | None = None) -> Backend:
    """SQS API on ``url``, any credentials; in memory unless ``store_dir`` is given."""
    require("java", "mvn", hint=JAVA_HINT)
    arguments = [str(store_dir)] if store_dir else []
    return _start(
        "http",
        lambda port, _: [str(SERVERS / "start-elasticmq"), str(port), *arguments],
        _responds("/?Action=ListQueues"),
        port=port,
    )


def start_elasticsearch(data_dir: Path | None = None, port: int | None = None) -> Backend:
    """A single node without security; its data outlive it only in ``data_dir``."""
    require("java", "javac", "jar", "mvn", hint=JAVA_HINT)
    return _start(
        "http",
        lambda port, scratch: [
            str(SERVERS / "start-elasticsearch"),
            str(port),
            str(data_dir or scratch / "data"),
        ],
        _responds("/_cluster/health?wait_for_status=yellow&timeout=1s"),
        port=port,
    )


def start_milvus(data_dir: Path | None = None, port: int | None = None) -> Backend:
    """Milvus Lite as a server of its own, which several processes may use."""
    beside_python = Path(sys.executable).with_name("milvus-lite")
    program = str(beside_python) if beside_python.exists() else shutil.which("milvus-lite")
    if program is None:
        raise MissingTool("not installed: milvus-lite")
    return _start(
        "http",
        lambda port, scratch: [
            *(program, "server", "--host", "127.0.0.1", "--port", str(port)),
            *("--data-dir", str(data_dir or scratch / "data")),
        ],
        accepts_connections,
        port=port,
    )


def start_postgres(
    port: int | None = None,
    *options: str,
    data_dir: Path | None = None,
    copy_of: str | None = None,
) -> Backend:
    """PostgreSQL with one superuser, ``postgres``, without a password and without fsync.

    ``options`` such as ``max_connections=5`` go to the server. With ``copy_of``, the URL of another
    server, it is a standby that follows that one. Its data outlive it only in ``data_dir``.
    """
    programs = _postgres_programs()
    as_user = _as_postgres_user()

    def command(port: int, scratch: Path) -> list[str]:
        data = data_dir or scratch / "data"
        if not data.exists():
            _make_postgres_data(programs, as_user, data, copy_of)
        all_options = [
            *("listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off"),
            *options,
        ]
        flags = [part for option in all_options for part in ("-c", option)]
        return [*as_user, str(programs / "postgres"), "-D", str(data), "-p", str(port), *flags]

    return _start(
        "postgresql+psycopg",
        command,
        _runs_sql,
        path="/postgres",
        user="postgres@",
        port=port,
        # SIGINT ends open sessions; SIGTERM would wait for them.
        stop_signal=signal.SIGINT,
    )


def start_pgbouncer(server_url: str, *settings: str, port: int | None = None) -> Backend:
    """PgBouncer before a PostgreSQL server; ``settings`` such as ``pool_mode = transaction``.

    ``url`` is that of the server's database ``postgres``; every other database has its own name.
    """
    require("pgbouncer")
    server = urlsplit(server_url)

    def command(port: int, scratch: Path) -> list[str]:
        lines = [
            *("[databases]", f"* = host={server.hostname} port={server.port}", "[pgbouncer]"),
            *("listen_addr = 127.0.0.1", f"listen_port = {port}", "unix_socket_dir ="),
            # Everyone is let in, under the name that the client gives.
            *("auth_type = trust", f"auth_file = {scratch}/users"),
            *settings,
        ]
        (scratch / "users").write_text('"postgres" ""\n')
        config = scratch / "pgbouncer.ini"
        config.write_text("\n".join(lines))
        return [*_as_postgres_user(), "pgbouncer", "-q", str(config)]

    return _start(
        "postgresql+psycopg", command, _runs_sql, path="/postgres", user="postgres@", port=port
    )


def start_toxiproxy(port: int | None = None) -> Backend:
    """A TCP proxy that injects faults; ``url`` is its HTTP API, which makes and breaks proxies."""
    require("bash")
    if shutil.which("go", path=f"{os.environ['PATH']}:{GO_PROGRAMS}") is None:
        raise MissingTool("not installed: go (1.23 or later, to build toxiproxy)")
    return _start(
        "http",
        lambda port, _: [str(SERVERS / "start-toxiproxy"), str(port)],
        _responds("/version"),
        port=port,
    )


def start_rabbitmq(
    data_dir: Path | None = None,
    port: int | None = None,
    *,
    management_port: int | None = None,
    advanced: str = "[].",
) -> Backend:
    """A RabbitMQ node with its own epmd; user and password are ``guest``.

    ``advanced``: an Erlang term for advanced.config. Its queues outlive it only in ``data_dir``.
    ``RABBITMQ_SUITE`` names a Debian release with another version.
    """
    require("setpriv", "python3")
    require_rabbitmq()
    management = [str(management_port)] if management_port else []

    logs: list[Path] = []

    def command(port: int, scratch: Path) -> list[str]:
        logs.append(scratch / "log")
        data = str(data_dir or scratch / "data")
        setting = f"RABBITMQ_ADVANCED={advanced}"
        return ["env", setting, str(SERVERS / "start-rabbitmq"), str(port), data, *management]

    def is_ready(_url: str) -> bool:
        # Later versions open their port before they can make a queue.
        return "RabbitMQ takes connections" in logs[-1].read_text(errors="replace")

    return _start("amqp", command, is_ready, port=port)


def start_redis(port: int | None = None, *options: str) -> Backend:
    """Redis without persistence; ``options`` such as ``--requirepass x`` go to the server."""
    require("redis-server")
    return _start(
        "redis",
        lambda port, scratch: [
            *("redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(scratch)),
            *("--save", "", "--appendonly", "no", *options),
        ],
        accepts_connections,
        port=port,
    )


def start_sentinel(*monitored: str) -> Backend:
    """A Sentinel; each of ``monitored`` is ``<service> <host> <port> <quorum>``."""
    require("redis-server")

    def command(port: int, scratch: Path) -> list[str]:
        config = scratch / "sentinel.conf"
        config.write_text("".join(f"sentinel monitor {one}\n" for one in monitored))
        where = ("--port", str(port), "--bind", "127.0.0.1", "--dir", str(scratch))
        return ["redis-server", str(config), "--sentinel", *where]

    return _start("redis", command, accepts_connections)


def start_nginx(root: Path, status_log: Path | None = None, port: int | None = None) -> Backend:
    """Serves the files below ``root`` in one process, with ETag and Last-Modified.

    ``status_log`` gets the status of every response, a line each.
    """
    require("nginx")

    def command(port: int, scratch: Path) -> list[str]:
        config = scratch / "nginx.conf"
        access_log = f'"{status_log}" only_status' if status_log else "off"
        config.write_text(_NGINX.format(scratch=scratch, port=port, root=root, log=access_log))
        return ["nginx", "-e", "stderr", "-p", str(scratch), "-c", str(config)]

    return _start("http", command, accepts_connections, port=port)


def create_database(server_url: str, name: str) -> str:
    """Create an empty PostgreSQL database and return its SQLAlchemy URL."""
    ask(server_url, f'CREATE DATABASE "{name}"')
    return sqlalchemy.make_url(server_url).set(database=name).render_as_string(hide_password=False)


def drop_database(server_url: str, name: str) -> None:
    """Drop a PostgreSQL database together with the sessions that still use it."""
    ask(server_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def ask(server_url: str, statement: str, database: str | None = None) -> list[Any]:
    """Run a statement outside any transaction; return its rows."""
    url = sqlalchemy.make_url(server_url)
    engine = sqlalchemy.create_engine(
        url.set(database=database or url.database),
        isolation_level="AUTOCOMMIT",
        poolclass=sqlalchemy.NullPool,
        connect_args={"connect_timeout": 5},
    )
    with engine.connect() as connection:
        result = connection.execute(sqlalchemy.text(statement))
        return list(result.all()) if result.returns_rows else []


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start(
    scheme: str,
    command: Callable[[int, Path], Sequence[str]],
    is_ready: Callable[[str], bool],
    *,
    path: str = "",
    user: str = "",
    port: int | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
) -> Backend:
    for attempts_left in (1, 0):
        scratch = Path(tempfile.mkdtemp(prefix="backend-"))
        # PostgreSQL runs as another user, whose data directory lies below.
        scratch.chmod(0o711)
        chosen = port or free_port()
        url = f"{scheme}://{user}127.0.0.1:{chosen}{path}"
        process = _spawn(command(chosen, scratch), scratch)
        backend = Backend(url, process, scratch, stop_signal)
        try:
            _wait_until_ready(backend, scratch / "log", is_ready)
        except StartFailed:
            backend.stop()
            # A free port may be taken by someone else before a slow server binds it.
            if not attempts_left:
                raise
        except BaseException:
            backend.stop()
            raise
        else:
            return backend
    raise AssertionError("unreachable")


def _spawn(command: Sequence[str], scratch: Path) -> subprocess.Popen[bytes]:
    # A killed test run cannot clean up: the kernel ends its servers, once the thread that started
    # them is gone.
    tied = ["setpriv", "--pdeathsig=KILL"] if shutil.which("setpriv") else []
    with (scratch / "log").open("wb") as log:
        return subprocess.Popen(
            [*tied, *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"TMPDIR": str(scratch)},
            start_new_session=True,
        )


def _wait_until_ready(backend: Backend, log: Path, is_ready: Callable[[str], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not is_ready(backend.url):
        ended = backend.process.poll() is not None
        if ended or time.monotonic() > deadline:
            how = f"ended with {backend.process.returncode}" if ended else "does not respond"
            raise StartFailed(f"{backend.process.args!r} {how}; its log ends with:\n{_tail(log)}")
        time.sleep(0.05)


def _end(process: subprocess.Popen[bytes], stop_signal: signal.Signals) -> None:
    if process.poll() is None:
        _signal_group(process, signal.SIGCONT)
        _signal_group(process, stop_signal)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    # Also when the leader is gone: children of its group may not be.
    _signal_group(process, signal.SIGKILL)
    process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:])


def _responds(path: str) -> Callable[[str], bool]:
    def is_ready(url: str) -> bool:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return is_ready


def accepts_connections(url: str) -> bool:
    address = urlsplit(url)
    try:
        with socket.create_connection((str(address.hostname), address.port or 0), timeout=5):
            return True
    except OSError:
        return False


def _runs_sql(url: str) -> bool:
    try:
        ask(url, "SELECT 1")
    except sqlalchemy.exc.OperationalError:
        return False
    return True


def require_rabbitmq() -> None:
    """Raise ``MissingTool`` where the RabbitMQ that ``RABBITMQ_SUITE`` asks for cannot be had."""
    if os.environ.get("RABBITMQ_SUITE"):
        require("mmdebstrap", "unshare", hint="to lay out another release's RabbitMQ")
        if os.geteuid() != 0:
            raise MissingTool("not installed: a RabbitMQ of RABBITMQ_SUITE, which needs root")
    elif not RABBITMQ_PROGRAM.exists():
        raise MissingTool("not installed: rabbitmq-server")


def _postgres_programs() -> Path:
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    versions = sorted(
        POSTGRES_VERSIONS.glob("*/bin/initdb"), key=lambda program: float(program.parts[-3])
    )
    if not versions:
        raise MissingTool("not installed: PostgreSQL (initdb)")
    return versions[-1].parent


def _as_postgres_user() -> list[str]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return []
    require("setpriv", hint="to run PostgreSQL as another user than root")
    # Changing the user clears the signal that ties a server to its test run.
    change = ["--reuid=postgres", "--regid=postgres", "--init-groups", "--pdeathsig=KILL"]
    return ["setpriv", *change]


def _make_postgres_data(
    programs: Path, as_user: Sequence[str], data: Path, copy_of: str | None
) -> None:
    data.mkdir(mode=0o700)
    if as_user:
        account = pwd.getpwnam("postgres")
        os.chown(data, account.pw_uid, account.pw_gid)
    if copy_of is None:
        command = [str(programs / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust"]
        command += ["--no-sync", "--encoding=UTF8", "--no-locale"]
    else:
        primary = urlsplit(copy_of)
        command = [str(programs / "pg_basebackup"), "-D", str(data), "-U", "postgres", "-R"]
        command += ["-h", str(primary.hostname), "-p", str(primary.port)]
        command += ["--no-sync", "--checkpoint=fast"]
    done = subprocess.run(
        [*as_user, *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        cwd="/",
    )
    if done.returncode != 0:
        raise StartFailed(f"{command[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
