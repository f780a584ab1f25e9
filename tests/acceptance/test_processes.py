"""The real program with several processes: one of them killed, all of them stopped."""

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests.acceptance.world import World, opened_world, wait_until
from tests.support.order_factories import order_body
from tests.support.paths import REPOSITORY

pytestmark = pytest.mark.timeout(300)

COUNT = 30
# Orders are quick: fewer would be done before the kill.
ORDER_COUNT = 200


@pytest.fixture
def world(tmp_path: Path, elasticmq_url: str, model: Mapping[str, str]) -> Iterator[World]:
    """A world in which each worker starts its own interpreter, as those of a service do."""
    with opened_world(tmp_path, elasticmq_url, model) as opened:
        yield opened


def two_free_ports() -> int:
    """Return the first of two neighbouring ports that are free."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            if port < 65_535 and second.connect_ex(("127.0.0.1", port + 1)) != 0:
                return port


def orders_only(world: World) -> dict[str, str]:
    return {
        "SQS_QUEUE_URL": "",
        "ORDERS_QUEUE_URL": world.queue_url,
        "DEFAULT_CURRENCY": "USD",
    }


def counted_orders(world: World) -> int:
    with closing(sqlite3.connect(world.data_dir / "products.db")) as connection:
        [(count,)] = connection.execute("SELECT SUM(order_count) FROM user_totals")
    return int(count)


def check_a_kill_under_load(
    world: World, bodies: Sequence[Any], *options: str, **settings: str
) -> None:
    """Kill one of two processes while it has messages; everything is handled all the same."""
    port = two_free_ports()
    service = world.start_worker(
        *("--processes", "2", "--threads", "2", *options),
        BATCH_SIZE="2",
        METRICS_PORT=str(port),
        **settings,
    )
    service.wait_for_log("started consuming", count=4, seconds=120)
    for metrics_port in (port, port + 1):
        with urlopen(f"http://127.0.0.1:{metrics_port}/healthz", timeout=10) as response:
            assert response.status == 200
    world.send(*bodies)
    service.wait_for_log("processed ID", count=3)
    [pid] = re.findall(r"Process 1 of 2 is (\d+)", service.log)
    os.kill(int(pid), signal.SIGKILL)
    service.wait_for_log("Process 1 was ended by SIGKILL; starting it again")
    service.wait_for_log("Process 1: Thread 2 started consuming", count=2, seconds=120)
    wait_until(lambda: world.left_in_queue() == 0, 60)
    service.send_signal(signal.SIGTERM)

    assert service.wait(40) == 0, service.log
    assert world.left_in_queue() == 0
    assert world.dead_letters() == []
    assert "Process 2: Thread 1 processed ID" in service.log


def test_a_process_killed_under_load_loses_nothing_and_the_service_stops_cleanly(
    world: World,
) -> None:
    orders = [order_body(order_id=f"ORD{number}") for number in range(ORDER_COUNT)]
    check_a_kill_under_load(world, orders, "--stream", "orders", **orders_only(world))

    assert counted_orders(world) == ORDER_COUNT


# Each process loads the model; two that share the stores are in test_thread_runner.py.
@pytest.mark.soak
def test_a_process_of_products_killed_under_load_loses_nothing(world: World) -> None:
    check_a_kill_under_load(world, [world.product(number) for number in range(COUNT)])

    assert set(world.search("--keywords", "product number")) == {
        f"p{number}" for number in range(COUNT)
    }


def test_the_service_ends_when_the_queue_is_empty_and_every_line_says_whose_it_is(
    world: World,
) -> None:
    world.send(*(order_body(order_id=f"ORD{number}") for number in range(COUNT)))
    service = world.start_worker(
        *("--stream", "orders", "--until-empty"),
        PROCESSES="2",
        LOG_FORMAT="json",
        **orders_only(world),
    )

    assert service.wait(240) == 0, service.log
    assert counted_orders(world) == COUNT
    assert world.left_in_queue() == 0
    entries = [json.loads(line) for line in service.log.splitlines()]
    assert {entry.get("process") for entry in entries} == {None, 1, 2}


@pytest.mark.parametrize("arguments", [["--processes", "0"], ["--demo", "--processes", "2"]])
def test_wrong_usage_is_exit_2(tmp_path: Path, arguments: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, str(REPOSITORY / "thread_runner.py"), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 2
    assert "--processes" in ended.stderr.splitlines()[-1]
