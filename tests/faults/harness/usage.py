"""What a process takes from its machine, sampled while it works."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import linear_regression


@dataclass(frozen=True, slots=True)
class Usage:
    """``messages``: handled when the sample was taken."""

    messages: int
    resident_kb: int
    files: int
    threads: int


def read_usage(process: int, messages: int) -> Usage:
    """Read a running process's resident memory, open files and threads from ``/proc``."""
    directory = Path(f"/proc/{process}")
    lines = (directory / "status").read_text().splitlines()
    values = dict(line.split(":", 1) for line in lines)
    files = len(list((directory / "fd").iterdir()))
    return Usage(messages, int(values["VmRSS"].split()[0]), files, int(values["Threads"]))


def growth_kb(samples: Sequence[Usage], messages: int) -> float:
    """Return by how much resident memory grows over so many messages: least squares."""
    handled = [float(sample.messages) for sample in samples]
    return linear_regression(handled, [sample.resident_kb for sample in samples]).slope * messages


def has_risen(values: Sequence[int]) -> bool:
    """Whether the last third never comes down to what the first third reached.

    Connections come and go, so single values differ; what leaks does not come back.
    """
    third = len(values) // 3
    return min(values[-third:]) > max(values[:third])
