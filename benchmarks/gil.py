"""CPU time and GIL-held time of one worker process per message, without decoding and the model.

    python -m benchmarks.gil [--threads 10 32] [--seconds S] [--windows N] [--sqlite] [--shared]

Runs the real worker in a process of its own against servers in other processes that answer at once.
SQS, an image host and Elasticsearch are canned, Milvus confirms upserts unread, the ledger is a
real PostgreSQL. Decoding is a sleep of 7 ms; the device sleeps 6 ms and 0.8 ms per item. The rest
is Python's own work for a message. One thread at a time holds the GIL: one second divided by the
GIL-held time is the most messages per second that a process can reach. The worker has a core
of its own, which is enough for one GIL, and the servers have the others. With ``--shared`` all use
all cores.

GIL-held time is a thread's CPU time less its CPU time without the GIL. A small C library counts it
(``gilshim.c``, which tells its blind spots; needs a C compiler, Linux and a Python that exports its
symbols). Other load on the machine does not disturb it. It does disturb messages per second, for
which the servers compete as well.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.support.gil_meter import build_shim
from benchmarks.support.program import run
from tests.support import backends
from tests.support.paths import REPOSITORY

GOAL_MS = 1.3
STOP_SECONDS = 40.0
NANOSECONDS_PER_MS = 1e6


def main() -> None:
    options = read_options()
    own_core = None if options.shared else take_a_core()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as running:
        directory = Path(scratch)
        # PostgreSQL runs as another user.
        directory.chmod(0o711)
        shim = build_shim(directory)
        if shim is None:
            print("No C compiler: CPU time only, GIL-held time is not measured.")
        servers = start_servers(running, use_postgres=not options.sqlite)
        for number, threads in enumerate(options.threads):
            settings = fresh_settings(servers, directory / f"data-{number}", number)
            report = measure(settings, directory, shim, threads, options, own_core)
            print_report(threads, report)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure CPU and GIL-held time per message.")
    parser.add_argument("--threads", type=int, nargs="+", default=[10, 32])
    parser.add_argument("--seconds", type=float, default=5.0, help="per window")
    parser.add_argument("--windows", type=int, default=3, help="their median is printed")
    parser.add_argument("--warm-up", type=int, default=1000, help="messages before the first")
    parser.add_argument(
        "--shared", action="store_true", help="worker and servers on all cores, not on their own"
    )
    parser.add_argument("--sqlite", action="store_true", help="ledger in SQLite, not PostgreSQL")
    return parser.parse_args()


def take_a_core() -> int | None:
    """Keep this process and the servers it will start off one core; return that core.

    None where there is only one core, or no way to choose.
    """
    if not hasattr(os, "sched_setaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return None
    os.sched_setaffinity(0, cores[1:])
    return cores[0]


def start_servers(running: ExitStack, *, use_postgres: bool) -> dict[str, str]:
    """Start every server in a process of its own; return their URLs."""
    images = running.enter_context(canned("canned_http", "images"))
    milvus = running.enter_context(backends.start_milvus())
    servers = {
        "images": images,
        "sqs": running.enter_context(canned("canned_http", "sqs", "--image-url", images)),
        "elasticsearch": running.enter_context(canned("canned_http", "elasticsearch")),
        "milvus": running.enter_context(canned("canned_milvus", milvus.url)),
    }
    if use_postgres:
        servers["postgres"] = running.enter_context(backends.start_postgres()).url
    return servers


@contextmanager
def canned(program: str, *arguments: str) -> Iterator[str]:
    """Run a canned server; yield its URL."""
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", f"benchmarks.support.{program}", *arguments],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        port = process.stdout.readline().strip() if process.stdout else ""
        if not port:
            raise SystemExit(f"{program} did not start")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def fresh_settings(servers: dict[str, str], data_dir: Path, number: int) -> dict[str, str]:
    """Return settings of a worker with a ledger, a collection and an index of its own."""
    settings = {
        "SQS_QUEUE_URL": f"{servers['sqs']}/000000000000/products",
        "AWS_ENDPOINT_URL": servers["sqs"],
        "AWS_REGION": "us-east-1",
        "SQS_ACCESS_KEY": "test",
        "SQS_SECRET_KEY": "test",
        "IMAGE_ALLOWED_NETWORKS": "127.0.0.0/8",
        "IMAGE_ALLOWED_PORTS": servers["images"].rpartition(":")[2],
        "MILVUS_URI": servers["milvus"],
        "MILVUS_COLLECTION": f"products{number}",
        "ELASTICSEARCH_URL": servers["elasticsearch"],
        "ELASTICSEARCH_INDEX": f"products{number}",
        "DATA_DIR": str(data_dir),
    }
    if "postgres" in servers:
        name = f"gil{number}"
        settings["DATABASE_URL"] = backends.create_database(servers["postgres"], name)
    return settings


def measure(
    settings: dict[str, str],
    directory: Path,
    shim: Path | None,
    threads: int,
    options: argparse.Namespace,
    own_core: int | None,
) -> dict[str, Any]:
    """Run one worker to the end of its windows, on its own core if any; return its report."""
    report, log = directory / f"report-{threads}.json", directory / f"log-{threads}"
    names = ("HOME", "PATH", "LANG", "TMPDIR")
    environment = {name: os.environ[name] for name in names if name in os.environ} | settings
    # The worker runs in a directory of its own, without a ``.env``.
    environment["PYTHONPATH"] = str(REPOSITORY)
    if shim is not None:
        environment["LD_PRELOAD"] = str(shim)
    arguments = ["--report", str(report), "--threads", str(threads)]
    for name in ("warm_up", "windows", "seconds"):
        arguments += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    limit = 120.0 + (options.windows + 1) * (options.seconds + 1.0) + STOP_SECONDS
    if own_core is not None:
        arguments += ["--core", str(own_core)]
    command = [sys.executable, "-m", "benchmarks.support.gil_worker", *arguments]
    try:
        with log.open("wb") as stream:
            subprocess.run(  # noqa: S603
                command,
                env=environment,
                cwd=directory,
                stdout=stream,
                stderr=stream,
                check=True,
                timeout=limit,
            )
    except subprocess.SubprocessError as error:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
        raise SystemExit(f"{error}; its log ends with:\n{tail}") from error
    content: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return content


def print_report(threads: int, report: dict[str, Any]) -> None:
    windows = report["windows"]
    rate = statistics.median(window["messages"] / window["seconds"] for window in windows)
    cpu = statistics.median(per_message(window, window["process_ns"]) for window in windows)
    cores = statistics.median(
        window["process_ns"] / window["seconds"] / 1000 / NANOSECONDS_PER_MS for window in windows
    )
    print(f"\n{threads} threads: {rate:.0f} messages/s on {cores:.2f} cores, {cpu:.2f} ms CPU each")
    if report["has_shim"]:
        print_held(windows)
    print_steps(report)


def print_held(windows: list[dict[str, Any]]) -> None:
    def per_window(field: str) -> list[float]:
        totals = [sum(spent[field] for spent in w["threads"].values()) for w in windows]
        pairs = zip(windows, totals, strict=True)
        return sorted(per_message(window, total) for window, total in pairs)

    every_held = per_window("held_ns")
    held, taking = statistics.median(every_held), statistics.median(per_window("taking_ns"))
    releases = statistics.median(per_window("releases")) * NANOSECONDS_PER_MS
    verdict = "reached" if held <= GOAL_MS else "not reached"
    print(
        f"GIL-held: {held:.2f} ms a message ({every_held[0]:.2f} to {every_held[-1]:.2f}; goal "
        f"{GOAL_MS} ms: {verdict}), so at most {1000 / held:.0f} messages/s;\n"
        f"  {taking:.2f} ms of it waiting for the GIL and taking it, {releases:.0f} times a message"
    )
    last = windows[-1]
    print(f"  {'by thread':<26}{'GIL-held ms':>12}{'CPU ms':>9}")
    threads = sorted(last["threads"].items(), key=lambda item: -item[1]["held_ns"])
    for name, spent in threads:
        held, cpu = per_message(last, spent["held_ns"]), per_message(last, spent["cpu_ns"])
        if cpu >= 0.0005:
            print(f"  {name:<26}{held:>12.3f}{cpu:>9.3f}")


def print_steps(report: dict[str, Any]) -> None:
    window = report["steps"]
    held_title = "GIL-held ms" if report["has_shim"] else ""
    print(
        f"  {'by step, clocks included':<26}{held_title:>12}{'CPU ms':>9}{'calls':>9}{'takes':>9}"
    )
    steps = sorted(window["steps"].items(), key=lambda item: -item[1]["held_ns"])
    for name, spent in steps:
        held = f"{per_message(window, spent['held_ns']):.3f}" if report["has_shim"] else ""
        cpu = per_message(window, spent["cpu_ns"])
        calls, takes = (spent[field] / window["messages"] for field in ("calls", "releases"))
        print(f"  {name:<26}{held:>12}{cpu:>9.3f}{calls:>9.2f}{takes:>9.1f}")
    for name in report["missing"]:
        print(f"  not found, so not told apart: {name}")


def per_message(window: dict[str, Any], nanoseconds: float) -> float:
    """Return milliseconds per message of a window."""
    return float(nanoseconds / max(1, window["messages"]) / NANOSECONDS_PER_MS)


if __name__ == "__main__":
    run(main)
