"""Names of processes, from which another process on the same machine tells whether one has ended.

A number alone does not say that: the system gives the number of an ended process to a new one.
"""

import os
import uuid
from pathlib import Path

_PROCESSES = Path("/proc")
_GONE = {"Z", "X"}
"""States of a process that has ended and that its parent has not waited for yet."""


def name_of_this_process() -> str:
    """Return the name of this process; no other process has it, on any machine."""
    return name_of(os.getpid())


def name_of(process_id: int) -> str:
    """Return the name of a running process on this machine."""
    machine, started_at = _machine(), _started_at(process_id)
    if machine is None or started_at is None:
        return uuid.uuid4().hex
    return f"{machine} {process_id} {started_at}"


def has_ended(name: str) -> bool | None:
    """Tell whether a process has ended; None for one that cannot be seen from here."""
    machine, _, process = name.partition(" ")
    if machine != _machine():
        return None
    process_id, _, started_at = process.partition(" ")
    return _started_at(int(process_id)) != started_at


def _machine() -> str | None:
    """Return a name of what numbers the processes: a start of the system, and a container in it."""
    try:
        start = (_PROCESSES / "sys/kernel/random/boot_id").read_text().strip()
        return f"{start}/{(_PROCESSES / 'self/ns/pid').readlink()}"
    except OSError:
        return None


def _started_at(process_id: int) -> str | None:
    """Return when a process started, in the system's own unit; None where none is running."""
    try:
        text = (_PROCESSES / str(process_id) / "stat").read_text()
    except OSError:
        return None
    # The second field is the program's name in brackets, which may hold anything. The state
    # follows, and the start is 19 fields later.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in _GONE else fields[19]
