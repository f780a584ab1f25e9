"""An embedded Milvus database that several processes can use at once.

Milvus Lite lets one process open a database. Here that process is a server of our own on loopback:
the first user starts it, every user holds a shared lock, and when the last lock is gone, by
``close()`` or by kill -9, the server closes the database and ends.

Beside the database ``P`` lie ``P.users`` (each user holds a shared lock), ``P.starting`` (held by
the user that looks for a server or starts it), ``P.address`` (locked by the server as long as it
lives, and says where it listens) and ``P.log`` (what the server printed). Locks are the kernel's,
so none outlives its process; the files themselves stay. Whoever may use loopback on this machine
may use the server: it asks for no credentials.
"""

import fcntl
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

from product_consumer.errors import ConfigurationError, StoreUnavailable

START_SECONDS = 30.0
"""Bound on waiting for a server to listen: imports on a busy machine, or a long recovery."""
CLOSE_SECONDS = 10.0
"""Bound on waiting for the server to close the database after its last user left."""
_POLL_SECONDS = 0.02
_USERS_POLL_SECONDS = 0.2
_LOCKED_SECONDS = 3.0
_GRACE_SECONDS = 2.0
_MAX_MESSAGE_BYTES = 256 * 1024 * 1024
# Without the package's __init__ files: the server detaches itself by a fork, and numpy, which they
# import, would have started threads by then.
_LAUNCH = (
    "import runpy, sys; sys.path.insert(0, sys.argv[2]);"
    " runpy.run_path(sys.argv[1], run_name='__main__')"
)
# Every call that changes the database: Milvus Lite allows one writer beside any number of readers.
_WRITES = (
    *("Insert", "Upsert", "Delete", "Flush", "ManualCompaction", "TruncateCollection"),
    *("CreateCollection", "DropCollection", "RenameCollection", "AlterCollection"),
    *("CreateIndex", "DropIndex", "LoadCollection", "ReleaseCollection"),
    *("CreatePartition", "DropPartition", "CreateAlias", "AlterAlias", "DropAlias"),
    *("CreateDatabase", "DropDatabase", "AlterDatabase"),
)


class EmbeddedMilvus:
    """One user of the embedded database at ``path``; may be used from any thread."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._users = _LockFile(_beside(self.path, "users"))
        self._server = _LockFile(_beside(self.path, "address"))
        self._mutex = threading.Lock()

    def start(self) -> str:
        """Return the server's ``http://127.0.0.1:PORT``, starting it where none lives; call again
        after the server died.

        Raises ``ConfigurationError`` when the path is open in another process or not writable,
        ``StoreUnavailable`` when the server does not come up within ``START_SECONDS``.
        """
        with self._mutex:
            deadline = time.monotonic() + START_SECONDS
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                _wait(lambda: self._users.acquire(fcntl.LOCK_SH), deadline)
                with _exclusive(_LockFile(_beside(self.path, "starting")), deadline):
                    return self._find_or_start(deadline)
            except OSError as error:
                self._users.release()
                problem = f"{self.path} cannot be used: {error}"
                raise ConfigurationError("MILVUS_URI", problem) from error

    def address(self) -> str | None:
        """Return where the server listens now; None when it is dead or not ready. Costs 15 µs."""
        with self._mutex:
            return self._server.read().get("address") if self._server_lives() else None

    def close(self) -> None:
        """Stop using the database.

        The last user waits, at most ``CLOSE_SECONDS``, until the server has closed it, so that
        another program may open the path right afterwards.
        """
        with self._mutex:
            self._users.release()
            deadline = time.monotonic() + CLOSE_SECONDS
            with suppress(StoreUnavailable, OSError):
                _wait(lambda: not self._server_lives() or self._has_other_users(), deadline)
            self._users.close()
            self._server.close()

    def _find_or_start(self, deadline: float) -> str:
        while True:
            if not self._server_lives():
                self._start_server()
            _wait(lambda: bool(self._server.read()) or not self._server_lives(), deadline)
            found = self._server.read()
            if "problem" in found:
                raise ConfigurationError("MILVUS_URI", str(found["problem"]))
            if "address" in found and self._server_lives():
                return str(found["address"])
            if not found:
                log_file = _beside(self.path, "log")
                raise StoreUnavailable("milvus", f"the embedded server ended: see {log_file}")

    def _start_server(self) -> None:
        # Whatever a dead server left is wiped while its lock is ours, so what is read later is new.
        if self._server.acquire(fcntl.LOCK_EX):
            self._server.write({})
            self._server.release()
        root = str(Path(__file__).parents[3])
        command = [sys.executable, "-P", "-c", _LAUNCH, __file__, root, str(self.path)]
        with _beside(self.path, "log").open("wb") as log_file, suppress(subprocess.TimeoutExpired):
            # It locks P.address, detaches and returns at once; a second one finds the lock taken.
            subprocess.run(  # noqa: S603 (our own interpreter and module)
                command,
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                timeout=START_SECONDS,
                check=False,
            )

    def _server_lives(self) -> bool:
        if not self._server.acquire(fcntl.LOCK_SH):
            return True
        self._server.release()
        return False

    def _has_other_users(self) -> bool:
        # A server that is closing holds the lock alone: then nobody shares it.
        if self._users.acquire(fcntl.LOCK_EX):
            self._users.release()
            return False
        shared = self._users.acquire(fcntl.LOCK_SH)
        self._users.release()
        return shared


class _LockFile:
    """A file whose kernel lock means something; its content, if any, is one small JSON object."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def acquire(self, kind: int) -> bool:
        """Take the lock (``LOCK_SH`` or ``LOCK_EX``) if it is free; False where it is not."""
        try:
            fcntl.flock(self._open(), kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        if self._descriptor >= 0:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def read(self) -> dict[str, Any]:
        """Return the content; empty where there is none or it is half written."""
        try:
            return dict(json.loads(os.pread(self._open(), 4096, 0)))
        except ValueError:
            return {}

    def write(self, content: dict[str, Any]) -> None:
        # In place: a renamed file would be another inode, and the lock is on this one.
        os.ftruncate(self._open(), 0)
        os.pwrite(self._open(), json.dumps(content).encode(), 0)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _open(self) -> int:
        if self._descriptor < 0:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        return self._descriptor


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}.{suffix}")


def _wait(condition: Callable[[], bool], deadline: float) -> None:
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise StoreUnavailable("milvus", "the embedded server did not answer in time")
        pause.wait(_POLL_SECONDS)


@contextmanager
def _exclusive(lock: _LockFile, deadline: float) -> Iterator[None]:
    _wait(lambda: lock.acquire(fcntl.LOCK_EX), deadline)
    try:
        yield
    finally:
        lock.close()


def main(path: Path) -> None:
    """Serve the database at ``path`` until no user is left; return where a server already lives."""
    lock = _LockFile(_beside(path, "address"))
    try:
        # Users only ever hold this lock for an instant, to see whether a server does.
        _wait(lambda: lock.acquire(fcntl.LOCK_EX), time.monotonic() + 1.0)
    except StoreUnavailable:
        return
    if os.fork():
        os._exit(0)
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A service manager signals all of a service at once; its users still drain into the server.
        signal.signal(number, signal.SIG_IGN)
    try:
        _serve(path, lock)
    finally:
        # Not by way of interpreter exit, which waits for the server's idle threads.
        os._exit(0)


def _serve(path: Path, lock: _LockFile) -> None:
    users = _LockFile(_beside(path, "users"))
    try:
        database = _open_database(path)
    except ConfigurationError as error:
        lock.write({"problem": error.problem})
        return
    server, port = _listen(database)
    lock.write({"address": f"http://127.0.0.1:{port}", "pid": os.getpid()})
    pause = threading.Event()
    while not users.acquire(fcntl.LOCK_EX):
        pause.wait(_USERS_POLL_SECONDS)
    # From here on a new user waits at that lock until this process is gone, then starts another.
    server.stop(grace=_GRACE_SECONDS).wait(_GRACE_SECONDS)
    database.close()


def _open_database(path: Path) -> Any:
    _skip_unused_imports()
    from milvus_lite.db import MilvusLite
    from milvus_lite.exceptions import DataDirLockedError

    if path.is_file():
        problem = (
            f"{path} is a file: Milvus Lite 3 keeps a folder, and cannot read files of version 2"
        )
        raise ConfigurationError("MILVUS_URI", problem)
    deadline = time.monotonic() + _LOCKED_SECONDS
    pause = threading.Event()
    while True:
        try:
            database = MilvusLite(str(path))
            break
        except DataDirLockedError as error:
            if time.monotonic() > deadline:
                problem = f"{path} is open in another process: close it there, or name another path"
                raise ConfigurationError("MILVUS_URI", problem) from error
        except OSError as error:
            raise ConfigurationError("MILVUS_URI", f"{path} cannot be opened: {error}") from error
        pause.wait(_POLL_SECONDS)
    _remove_half_made_collections(path)
    return database


def _skip_unused_imports() -> None:
    """Keep pandas and the whole client out of the server: two thirds of its time to be ready.

    Milvus Lite needs ``pymilvus.grpc_gen`` only, but ``pymilvus/__init__`` would come with it; and
    pyarrow imports pandas, where it is installed, at the first write.
    """
    found = importlib.util.find_spec("pymilvus")
    if found is not None and found.submodule_search_locations:
        package = types.ModuleType("pymilvus")
        package.__path__ = list(found.submodule_search_locations)
        sys.modules.setdefault("pymilvus", package)
    sys.meta_path.insert(0, _WithoutPandas())


class _WithoutPandas(MetaPathFinder):
    """Makes pandas look like a package that is not installed."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("No module named 'pandas'", name=fullname)


def _remove_half_made_collections(path: Path) -> None:
    """Remove folders without a schema: what a killed server left cannot be opened or made again."""
    for folder in (path / "collections").glob("*/"):
        if not (folder / "schema.json").exists():
            shutil.rmtree(folder, ignore_errors=True)


def _listen(database: Any) -> tuple[Any, int]:
    import grpc
    from milvus_lite.adapter.grpc.servicer import MilvusServicer
    from pymilvus.grpc_gen import milvus_pb2_grpc

    servicer = MilvusServicer(database)
    one_writer = threading.Lock()
    for name in _WRITES:
        setattr(servicer, name, _locked(one_writer, getattr(servicer, name)))
    options = [
        ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
        # pymilvus pings an idle connection every 10 s; by default a server allows one in 5 minutes
        # and hangs up ("too_many_pings").
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
    server = grpc.server(ThreadPoolExecutor(max_workers=16), options=options)
    milvus_pb2_grpc.add_MilvusServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


def _locked(lock: threading.Lock, call: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def under_lock(request: Any, context: Any) -> Any:
        with lock:
            return call(request, context)

    return under_lock


if __name__ == "__main__":
    main(Path(sys.argv[-1]))
