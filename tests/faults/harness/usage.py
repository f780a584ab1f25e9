"""Memory, open files and threads of a process, sampled while it works."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import linear_regression


@dataclass(frozen=True, slots=True)
class Usage:
    """One sample; ``messages``: handled until it was taken."""

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
    """Return the growth in KB of resident memory over so many messages, by least squares."""
    handled = [float(sample.messages) for sample in samples]
    return linear_regression(handled, [sample.resident_kb for sample in samples]).slope * messages


def has_risen(values: Sequence[int]) -> bool:
    """Whether every value of the last third is above the highest of the first third.

    Connections come and go, so single values differ; a leak never shrinks.
    """
    third = len(values) // 3
    return min(values[-third:]) > max(values[:third])
