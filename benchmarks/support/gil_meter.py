"""CPU time and GIL-held time of this process: by thread, and by step of a thread.

Without the library of ``gilshim.c`` in ``LD_PRELOAD`` only CPU time is known.
"""

import ctypes
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("gilshim.c")
MAX_THREADS = 4096
HELD = -1
OTHERWISE = "everything else"


def build_shim(directory: Path) -> Path | None:
    """Compile the library and return its path; None where there is no C compiler."""
    compiler = next((path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))), "")
    if not compiler:
        return None
    library = directory / "gilshim.so"
    options = ["-O2", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run([compiler, *options], check=True, timeout=60)  # noqa: S603
    return library


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU time in nanoseconds.

    ``held_ns``: with the GIL; ``taking_ns``: of the rest, waiting for the GIL and taking it;
    ``releases``: how often it was taken again; ``calls``: of a step.
    """

    cpu_ns: int = 0
    held_ns: int = 0
    taking_ns: int = 0
    releases: int = 0
    calls: int = 0

    def __sub__(self, before: "Spent") -> "Spent":
        return Spent(
            self.cpu_ns - before.cpu_ns,
            self.held_ns - before.held_ns,
            self.taking_ns - before.taking_ns,
            self.releases - before.releases,
            self.calls - before.calls,
        )

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(
            self.cpu_ns + other.cpu_ns,
            self.held_ns + other.held_ns,
            self.taking_ns + other.taking_ns,
            self.releases + other.releases,
            self.calls + other.calls,
        )


class Shim:
    """The counters of the preloaded library. Raises ``LookupError`` where it is not loaded."""

    def __init__(self) -> None:
        # Not CDLL, which would release the GIL for every reading.
        library = ctypes.PyDLL(None)
        if not hasattr(library, "gil_own_held_ns"):
            raise LookupError("the library of gilshim.c is not in LD_PRELOAD")
        library.gil_own_held_ns.restype = ctypes.c_longlong
        self.own_held_ns: Callable[[], int] = library.gil_own_held_ns
        library.gil_own_releases.restype = ctypes.c_longlong
        self.own_releases: Callable[[], int] = library.gil_own_releases
        self._accounts = library.gil_accounts
        self._rows = (ctypes.c_longlong * (5 * MAX_THREADS))()

    def of_threads(self) -> dict[int, Spent]:
        """Return the time spent so far by each living thread that ever released the GIL."""
        count = self._accounts(self._rows, MAX_THREADS)
        by_thread = {}
        for row in range(count):
            thread_id, released, taking, releases, released_at = self._rows[5 * row : 5 * row + 5]
            cpu = thread_cpu_ns(thread_id)
            if cpu is not None:
                since = 0 if released_at == HELD else cpu - released_at
                by_thread[thread_id] = Spent(cpu, cpu - released - since, taking, releases)
        return by_thread


def thread_cpu_ns(thread_id: int) -> int | None:
    """Return CPU time of a thread of this process, by its kernel id; None once it has ended."""
    try:
        # How Linux numbers the clock of a thread (MAKE_THREAD_CPUCLOCK in posix-timers.h).
        return time.clock_gettime_ns((~thread_id << 3) | 6)
    except OSError:
        return None


class Steps:
    """Charges the CPU time of every thread to its current step.

    A step inside another step interrupts it.
    """

    def __init__(self, shim: Shim | None) -> None:
        self._held_ns = shim.own_held_ns if shim else time.thread_time_ns
        self._releases = shim.own_releases if shim else int
        self._local = threading.local()
        self._of_threads: list[_OfThread] = []

    def watch(self, owner: Any, name: str, step: str) -> bool:
        """Make every call of ``owner.name`` the step ``step``; False for a missing name."""
        original = getattr(owner, name, None)
        if original is None:
            return False

        @wraps(original)
        def watched(*arguments: Any, **named: Any) -> Any:
            own = self._own()
            outer = own.step
            own.enter(step, self._held_ns(), self._releases())
            own.calls[step] += 1
            try:
                return original(*arguments, **named)
            finally:
                own.enter(outer, self._held_ns(), self._releases())

        setattr(owner, name, watched)
        return True

    def totals(self) -> dict[str, Spent]:
        """Return the time spent so far in each step."""
        totals: dict[str, Spent] = {}
        for account in list(self._of_threads):
            for step in list(account.cpu):
                totals[step] = totals.get(step, Spent()) + account.spent(step)
        return totals

    def _own(self) -> "_OfThread":
        own: _OfThread | None = getattr(self._local, "own", None)
        if own is None:
            own = self._local.own = _OfThread(self._held_ns(), self._releases())
            self._of_threads.append(own)
        return own


class _OfThread:
    """The account of one thread; only that thread writes to it."""

    def __init__(self, held_ns: int, releases: int) -> None:
        self.step = OTHERWISE
        self.cpu: Counter[str] = Counter()
        self.held: Counter[str] = Counter()
        self.releases: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self._cpu_ns, self._held_ns, self._releases = time.thread_time_ns(), held_ns, releases

    def enter(self, step: str, held_ns: int, releases: int) -> None:
        cpu_ns = time.thread_time_ns()
        self.cpu[self.step] += cpu_ns - self._cpu_ns
        self.held[self.step] += held_ns - self._held_ns
        self.releases[self.step] += releases - self._releases
        self._cpu_ns, self._held_ns, self._releases = cpu_ns, held_ns, releases
        self.step = step

    def spent(self, step: str) -> Spent:
        return Spent(self.cpu[step], self.held[step], 0, self.releases[step], self.calls[step])
