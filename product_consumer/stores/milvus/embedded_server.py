"""The server of an embedded Milvus database: a program that ``embedded.py`` starts.

It opens the database, serves it on loopback, and ends when no user holds a lock any more.

It detaches itself by a fork, which must come before anything starts a thread. So only the standard
library and modules that need nothing else are imported at the top (numpy would start threads).
"""

import fcntl
import importlib.util
import os
import shutil
import signal
import sys
import threading
import time
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

from product_consumer.errors import ConfigurationError, StoreUnavailable
from product_consumer.stores.milvus.lock_file import POLL_SECONDS, LockFile, beside, wait_until

_USERS_POLL_SECONDS = 0.2
# Bound on waiting for another process to close the database.
_LOCKED_SECONDS = 3.0
# Bound on calls that are still running when the last user has left.
_GRACE_SECONDS = 2.0
_MAX_MESSAGE_BYTES = 256 * 1024 * 1024
# Every call that changes the database: Milvus Lite allows one writer beside any number of readers.
_WRITES = (
    *("Insert", "Upsert", "Delete", "Flush", "ManualCompaction", "TruncateCollection"),
    *("CreateCollection", "DropCollection", "RenameCollection", "AlterCollection"),
    *("CreateIndex", "DropIndex", "LoadCollection", "ReleaseCollection"),
    *("CreatePartition", "DropPartition", "CreateAlias", "AlterAlias", "DropAlias"),
    *("CreateDatabase", "DropDatabase", "AlterDatabase"),
)


def main(path: Path) -> None:
    """Serve the database at ``path`` until no user is left; return where a server already lives."""
    lock = LockFile(beside(path, "address"))
    try:
        # Users hold this lock for an instant only, to see whether a server does.
        wait_until(lambda: lock.acquire(fcntl.LOCK_EX), time.monotonic() + 1.0)
    except StoreUnavailable:
        return
    if os.fork():
        os._exit(0)
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A service manager signals all processes at once; the users still drain into this server.
        signal.signal(number, signal.SIG_IGN)
    try:
        _serve(path, lock)
    finally:
        # An interpreter's own exit would wait for the server's idle threads.
        os._exit(0)


def _serve(path: Path, lock: LockFile) -> None:
    users = LockFile(beside(path, "users"))
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
    # From here on a new user waits for that lock until this process is gone, then starts another.
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
        pause.wait(POLL_SECONDS)
    _remove_half_made_collections(path)
    return database


def _skip_unused_imports() -> None:
    """Keep pandas and the whole client out of the server: two thirds of its time to be ready.

    Milvus Lite needs ``pymilvus.grpc_gen`` only, but would run ``pymilvus/__init__`` with it.
    pyarrow imports pandas, where it is installed, at the first write.
    """
    spec = importlib.util.find_spec("pymilvus")
    if spec is not None and spec.submodule_search_locations:
        package = types.ModuleType("pymilvus")
        package.__path__ = list(spec.submodule_search_locations)
        sys.modules.setdefault("pymilvus", package)
    sys.meta_path.insert(0, _WithoutPandas())


class _WithoutPandas(MetaPathFinder):
    """Makes pandas look like a package that is not installed."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("No module named 'pandas'", name=fullname)


def _remove_half_made_collections(path: Path) -> None:
    """Remove folders without a schema. A killed server leaves them; Milvus Lite can neither open
    them nor make them again.
    """
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
