"""An embedded Milvus database that several processes can use at once: the side of its users.

Milvus Lite lets one process open a database. Here that process is a server of our own on loopback
(``embedded_server.py``). The first user starts it and every user holds a shared lock. The last lock
ends by ``close()`` or by kill -9; then the server closes the database and ends.

Beside the database ``P`` lie four files (``lock_file.py``), which stay:

- ``P.users``: each user holds a shared lock;
- ``P.starting``: locked by the user that finds or starts a server;
- ``P.address``: locked by the server as long as it lives, and says where it listens;
- ``P.log``: what the server printed.

Locks are the kernel's, so none outlives its process. Whoever may use loopback on this machine may
use the server: it asks for no credentials.
"""

import fcntl
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from product_consumer.errors import ConfigurationError, StoreUnavailable
from product_consumer.stores.milvus.lock_file import LockFile, beside, exclusive, wait_until

START_SECONDS = 30.0
"""Bound on waiting for a server to listen: imports on a busy machine, or a long recovery."""
CLOSE_SECONDS = 10.0
"""Bound on waiting for the server to close the database after its last user left."""
_SERVER_FILE = Path(__file__).with_name("embedded_server.py")
_ROOT = Path(__file__).parents[3]
# By its path, with our own root first: the server finds this program wherever the user stands.
_LAUNCH = (
    "import runpy, sys; sys.path.insert(0, sys.argv[2]);"
    " runpy.run_path(sys.argv[1], run_name='__main__')"
)


class EmbeddedMilvus:
    """One user of the embedded database at ``path``. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._users = LockFile(beside(self.path, "users"))
        self._server = LockFile(beside(self.path, "address"))
        self._mutex = threading.Lock()

    def start(self) -> str:
        """Return the server's ``http://127.0.0.1:PORT``; start it where none lives.

        Call it again after the server died. Raises ``ConfigurationError`` when the path is open in
        another process or not writable, ``StoreUnavailable`` when the server does not come up
        within ``START_SECONDS``.
        """
        with self._mutex:
            deadline = time.monotonic() + START_SECONDS
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                wait_until(lambda: self._users.acquire(fcntl.LOCK_SH), deadline)
                with exclusive(LockFile(beside(self.path, "starting")), deadline):
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
                wait_until(lambda: not self._server_lives() or self._has_other_users(), deadline)
            self._users.close()
            self._server.close()

    def _find_or_start(self, deadline: float) -> str:
        while True:
            if not self._server_lives():
                self._start_server()
            wait_until(lambda: bool(self._server.read()) or not self._server_lives(), deadline)
            content = self._server.read()
            if "problem" in content:
                raise ConfigurationError("MILVUS_URI", str(content["problem"]))
            if "address" in content and self._server_lives():
                return str(content["address"])
            if not content:
                log_file = beside(self.path, "log")
                raise StoreUnavailable("milvus", f"the embedded server ended: see {log_file}")

    def _start_server(self) -> None:
        # Wipe a dead server's content while its lock is ours: later reads then see a new server's.
        if self._server.acquire(fcntl.LOCK_EX):
            self._server.write({})
            self._server.release()
        arguments = [str(_SERVER_FILE), str(_ROOT), str(self.path)]
        command = [sys.executable, "-P", "-c", _LAUNCH, *arguments]
        with beside(self.path, "log").open("wb") as log_file, suppress(subprocess.TimeoutExpired):
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
        # A server that is closing holds the lock alone; no user can share it then.
        if self._users.acquire(fcntl.LOCK_EX):
            self._users.release()
            return False
        shared = self._users.acquire(fcntl.LOCK_SH)
        self._users.release()
        return shared
