"""Starts workers by forking: a process that has loaded everything once, and opened nothing.

Reads one JSON command per line and writes one line for each. ``{"start": {...}}`` returns the pid.
``{"poll": pid}`` returns the exit code (minus the signal that killed it), or null while it runs.
The server ends, and kills its children, when its standard input ends. A forked worker starts in a
quarter of a second instead of two. ``--torch`` also loads the modules of the real embedder.
With ``--program`` a worker is ``thread_runner.py`` as it is, without the harness.
"""

import importlib
import json
import logging
import os
import pkgutil
import random
import signal
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import product_consumer
from tests.support.aws_data import read_descriptions

# No worker here is one of data streams, whose models take seconds to import.
SLOW_OR_ABSENT = ("product_consumer.demo", "product_consumer.streams", "product_consumer.__main__")
NEEDS_TORCH = "product_consumer.embedding."


def load(arguments: Sequence[str]) -> ModuleType:
    """Import everything that a worker needs; return the module whose ``main`` it runs."""
    if "--program" in arguments:
        # It reads this when it is imported. No worker of a test may load from the hub.
        os.environ["HF_HUB_OFFLINE"] = "1"
        importlib.import_module("product_consumer.embedding.embedder")
        importlib.import_module("data_management")
        worker = importlib.import_module("thread_runner")
    else:
        if "--torch" in arguments:
            importlib.import_module("tests.faults.harness.fake_device")
        worker = importlib.import_module("tests.faults.harness.worker")
    for module in pkgutil.walk_packages(product_consumer.__path__, "product_consumer."):
        if not module.name.startswith((*SLOW_OR_ABSENT, NEEDS_TORCH)):
            importlib.import_module(module.name)
    read_descriptions()
    if "torch" in sys.modules and not arguments:
        raise RuntimeError(f"a module outside {NEEDS_TORCH} loads torch")
    return worker


def become_worker(worker: ModuleType, command: dict[str, Any]) -> int:
    """Turn this new fork into a worker; return its exit code."""
    os.environ.clear()
    os.environ.update(command["environment"])
    os.chdir(command["directory"])
    sys.argv = ["worker.py", *command["arguments"]]
    log = os.open(command["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    # With one seed all workers would draw the same pauses, and meet at the same moments.
    random.seed()
    device = sys.modules.get("tests.faults.harness.fake_device")
    if device is not None:
        sys.modules["product_consumer.embedding.embedder"] = device
    code: int = worker.main()
    return code


def serve(worker: ModuleType) -> None:
    children: set[int] = set()
    for line in sys.stdin:
        command = json.loads(line)
        if "start" in command:
            pid = os.fork()
            if pid == 0:
                _end(become_worker(worker, command["start"]))
            children.add(pid)
            reply: int | None = pid
        else:
            reply = _exit_code(command["poll"])
            if reply is not None:
                children.discard(command["poll"])
        print(json.dumps(reply), flush=True)
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def _end(code: int) -> None:
    """Exit without the interpreter's own shutdown: libraries loaded before the fork may hang in it.

    Workers that are not forked test that shutdown.
    """
    logging.shutdown()
    os._exit(code)


def _exit_code(pid: int) -> int | None:
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


if __name__ == "__main__":
    loaded = load(sys.argv[1:])
    print(json.dumps("ready"), flush=True)
    serve(loaded)
    _end(0)
