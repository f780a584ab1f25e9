"""The benchmarks' GIL meter tells CPU time with the GIL from CPU time without it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.support.gil_meter import build_shim
from tests.support.paths import REPOSITORY
from tests.support.tools import MissingTool

# Hashing more than 2047 bytes releases the GIL; adding numbers keeps it.
PROGRAM = """
import hashlib, json, time
from benchmarks.support.gil_meter import Shim
shim = Shim()

def share_held(work):
    cpu, held = time.thread_time_ns(), shim.own_held_ns()
    work()
    return (shim.own_held_ns() - held) / (time.thread_time_ns() - cpu)

hashing = share_held(lambda: hashlib.sha256(bytes(30_000_000)).digest())
adding = share_held(lambda: sum(range(2_000_000)))
print(json.dumps([hashing, adding]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="preloads a library of Linux")
def test_the_meter_tells_work_with_the_gil_from_work_without_it(tmp_path: Path):
    shim = build_shim(tmp_path)
    if shim is None:
        raise MissingTool("not installed: a C compiler")

    environment = os.environ | {"LD_PRELOAD": str(shim), "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )

    hashing, adding = json.loads(done.stdout)
    assert hashing < 0.5 < 0.95 < adding
