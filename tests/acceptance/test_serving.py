"""The order service through the real programs: beside a worker, and on its own."""

import os
import signal
import subprocess
import sys
from typing import Any

import pytest
import requests

from tests.acceptance.world import World, wait_until
from tests.support.backends import free_port
from tests.support.fake_openai import FakeOpenAi
from tests.support.order_factories import ABSENT, order_text
from tests.support.paths import REPOSITORY

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def world(order_world: World) -> World:
    order_world.environment["API_PORT"] = str(free_port())
    return order_world


def ask(world: World, path: str) -> Any:
    url = f"http://127.0.0.1:{world.environment['API_PORT']}{path}"
    try:
        response = requests.get(url, headers={"X-API-Key": "k"}, timeout=5)
    except requests.ConnectionError:
        return None
    return response.json() if response.status_code == 200 else None


def found(world: World) -> set[tuple[str, str]]:
    return {(flag["id"], flag["code"]) for flag in ask(world, "/quality") or []}


def test_a_worker_answers_while_it_counts_and_asks_the_model(world: World) -> None:
    expected = {("ORD1234", "suspicious_pattern"), ("ORD2", "address_missing")}
    reply = '{"flags": [{"code": "suspicious_pattern", "reason": "odd"}]}'
    with FakeOpenAi(reply) as stand_in:
        worker = world.start_worker(
            *("--stream", "orders", "--serve", "--threads", "2"),
            API_KEY="k",
            QUALITY_LLM_URL=stand_in.url,
            QUALITY_LLM_MODEL="made-up",
        )
        world.send(order_text(), order_text(order_id="ORD2", shipping_address=ABSENT))
        wait_until(lambda: found(world) >= expected, 60.0)
        stats, total = ask(world, "/users/U5678/stats"), ask(world, "/stats/global")
        worker.process.send_signal(signal.SIGTERM)
        code = worker.wait(30.0)

    assert code == 0, worker.log
    assert stats == {
        "user_id": "U5678",
        "order_count": 2,
        "total_spend": "199.98",
        "currency": "USD",
    }
    assert total == {"total_orders": 2, "total_revenue": "199.98", "currency": "USD"}
    for secret in ("Main St", "CreditCard", "U5678", "ORD1234", "P001"):
        assert secret not in stand_in.everything_sent
    assert "Main St" not in worker.log


def test_the_service_runs_on_its_own_and_ends_on_a_signal(world: World) -> None:
    with (world.directory / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "product_consumer", "serve"],
            cwd=REPOSITORY,
            env=dict(os.environ | world.environment),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: ask(world, "/readyz") == {"status": "ok"}, 30.0)
        response = ask(world, "/stats/global")
    finally:
        process.terminate()
        code = process.wait(20)

    assert code == 0
    assert response == {"total_orders": 0, "total_revenue": "0.00", "currency": "USD"}


def test_a_port_in_use_ends_the_service_with_78(world: World) -> None:
    with FakeOpenAi() as other:
        port = other.url.split(":")[2].partition("/")[0]
        done = subprocess.run(
            [sys.executable, "-m", "product_consumer", "serve"],
            cwd=REPOSITORY,
            env=dict(os.environ | world.environment | {"API_PORT": port}),
            capture_output=True,
            text=True,
            timeout=60,
        )

    assert done.returncode == 78
    assert "API_PORT" in done.stderr
    assert "Traceback" not in done.stderr
