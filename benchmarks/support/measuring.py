"""CPU time of running processes from ``/proc`` (Linux), medians, and tables of reports."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def cpu_seconds(roots: Mapping[str, int]) -> dict[str, float]:
    """Return CPU seconds so far, user and system, of each named process and its descendants.

    Children that have ended and were waited for are included.
    """
    parents: dict[int, int] = {}
    spent: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "stat").read_text(errors="replace")
        except OSError:
            continue
        # The name, in parentheses, may hold anything; field 4 of proc(5) follows it and the state.
        fields = text.rpartition(")")[2].split()
        parents[int(entry.name)] = int(fields[1])
        spent[int(entry.name)] = sum(map(int, fields[11:15])) / _TICKS_PER_SECOND
    return {
        name: sum(seconds for pid, seconds in spent.items() if _is_below(pid, root, parents))
        for name, root in roots.items()
    }


def _is_below(pid: int, root: int, parents: Mapping[int, int]) -> bool:
    while pid > 1:
        if pid == root:
            return True
        pid = parents.get(pid, 0)
    return False


@dataclass(frozen=True, slots=True)
class Window:
    """The counters of one worker in one span of time."""

    seconds: float
    messages: int
    worker_cpu_seconds: float
    server_cpu_seconds: Mapping[str, float]

    @property
    def rate(self) -> float:
        """Messages per second."""
        return self.messages / self.seconds

    @property
    def worker_cpu_ms(self) -> float:
        """Per message."""
        return 1000 * self.worker_cpu_seconds / max(1, self.messages)

    @property
    def servers_cpu_ms(self) -> float:
        """Of all servers together, per message."""
        return 1000 * sum(self.server_cpu_seconds.values()) / max(1, self.messages)

    @property
    def cpu_ms(self) -> float:
        """Of worker and servers together, per message."""
        return self.worker_cpu_ms + self.servers_cpu_ms


def difference(later: Mapping[str, float], earlier: Mapping[str, float]) -> dict[str, float]:
    """Return how much each value has grown."""
    return {key: value - earlier.get(key, 0.0) for key, value in later.items()}


def middle(values: Iterable[float]) -> float:
    """Return the median; 0 without values."""
    figures = list(values)
    return median(figures) if figures else 0.0


def markdown(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table with its first column to the left and all others to the right."""
    cells = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [cells[0], rule, *cells[1:]]
    return "\n".join("| " + " | ".join(_padded(line, widths)) + " |" for line in lines)


def _padded(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    first, *others = zip(line, widths, strict=True)
    return [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
