"""Orders from RabbitMQ beside products from SQS: every command of an operator, and one worker."""

import sqlite3
from contextlib import closing
from typing import Any

import pytest
from typer.testing import CliRunner

from product_consumer.cli import app as console
from product_consumer.cli import configuration
from tests.acceptance.world import World
from tests.support.rabbitmq import RabbitClient
from tests.support.rabbitmq_node import RabbitServer

pytestmark = pytest.mark.timeout(170)

SENT = 60


class Operator:
    """Somebody at the console, with one queue of orders."""

    def __init__(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ORDERS_QUEUE_URL", url)
        monkeypatch.setattr(configuration, "configure_logging", lambda *_: None)

    def run(self, *arguments: str) -> str:
        """Run a command, which must not fail; return what it printed."""
        done = CliRunner().invoke(console.app, list(arguments))
        assert done.exit_code == 0, done.output
        return done.output


def orders_in(world: World) -> list[Any]:
    with closing(sqlite3.connect(world.data_dir / "products.db")) as ledger:
        return ledger.execute("SELECT COUNT(*) FROM orders").fetchall()


def test_orders_from_rabbitmq_and_products_from_sqs_are_one_workers(
    world: World, rabbitmq: RabbitClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = rabbitmq.name("orders")
    url = rabbitmq.server.url(queue)
    monkeypatch.setenv("DATA_DIR", str(world.data_dir))
    operator = Operator(url, monkeypatch)
    set_up = operator.run("setup-queues", "--stream", "orders")
    operator.run("publish-orders", "--count", str(SENT), "--bad-share", "0.2")
    world.send(*(world.product(number) for number in range(3)))
    streams = ("--stream", "products", "--stream", "orders")
    worker = world.start_worker(
        *(*streams, "--until-empty", "--threads", "2"),
        ORDERS_QUEUE_URL=url,
        RABBITMQ_MANAGEMENT_URL=str(rabbitmq.server.management_url),
    )
    assert worker.wait() == 0, worker.log

    rejected = rabbitmq.count(f"{queue}-dead-letter")
    assert 0 < rejected < SENT
    assert orders_in(world) == [(SENT - rejected,)]
    assert world.left_in_queue() == rabbitmq.count(queue) == 0
    assert f"{rejected} messages in {queue}-dead-letter" in operator.run(
        "dlq", "list", "--stream", "orders"
    )
    assert f"Redriven {rejected}" in operator.run(
        "dlq", "redrive", "--stream", "orders", "--all", "--yes"
    )
    assert rabbitmq.count(queue) == rejected
    assert_no_password(rabbitmq.server, set_up, worker.log)


def assert_no_password(server: RabbitServer, *texts: str) -> None:
    secret = ":".join(server.login)
    assert [text for text in texts if secret in text] == []
