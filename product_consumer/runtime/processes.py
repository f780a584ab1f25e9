"""Several worker processes on one machine: their parent, their commands, their environments."""

import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from product_consumer.environment import child_environment, read_systemd_environment
from product_consumer.errors import ConfigurationError
from product_consumer.runtime.options import Options
from product_consumer.runtime.process_supervisor import PARENT_GRACE_SECONDS, ProcessSupervisor
from product_consumer.runtime.signals import Shutdown
from product_consumer.runtime.systemd import Notifier
from product_consumer.settings import Settings

_LAST_PORT = 65_535


def run_processes(settings: Settings, options: Options) -> int:
    """Supervise ``settings.processes`` workers, each this program again; return the exit code.

    Raises ``FatalError`` when a child keeps dying, and ``ConfigurationError`` when there is no
    metrics port for a child.
    """
    notifier = Notifier(read_systemd_environment())
    with Shutdown(settings.drain_seconds + PARENT_GRACE_SECONDS, notifier) as shutdown:
        supervisor = ProcessSupervisor(
            shutdown,
            settings.processes,
            partial(worker_command, options.arguments),
            partial(worker_environment, settings),
            drain_seconds=settings.drain_seconds,
            ends_when_empty=options.until_empty,
        )
        return supervisor.run()


def worker_command(arguments: Sequence[str], number: int) -> list[str]:
    """Return the command of a child: this program with its own ``arguments``."""
    program = str(Path(sys.argv[0]).resolve())
    # If an option is given twice, the last value counts.
    own = ["--processes", "1", "--process-number", str(number)]
    return [sys.executable, program, *arguments, *own]


def worker_environment(settings: Settings, number: int) -> dict[str, str]:
    """Return the environment of a child, which leaves room for the others.

    Each child serves its metrics at a port of its own, from ``METRICS_PORT`` up. Torch gets a share
    of the cores unless ``OMP_NUM_THREADS`` is set. Raises ``ConfigurationError`` when there is no
    such port.
    """
    changes = {}
    if settings.metrics_port is not None:
        port = settings.metrics_port + number - 1
        if port > _LAST_PORT:
            problem = f"{settings.metrics_port}: process {number} would need port {port}"
            raise ConfigurationError("METRICS_PORT", problem)
        changes["METRICS_PORT"] = str(port)
    threads = max(1, _usable_cores() // settings.processes)
    return child_environment({"OMP_NUM_THREADS": str(threads)}, changes)


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
