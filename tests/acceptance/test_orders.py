"""Orders through the real program: killed, its Redis lost, and everything added up by hand."""

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import redis
import sqlalchemy

from tests.acceptance.world import World
from tests.support import backends
from tests.support.order_factories import order_body
from tests.support.paths import REPOSITORY

pytestmark = pytest.mark.timeout(170)

DAYS = 14
FIRST_DAY = date(2026, 10, 1)


@pytest.fixture
def world(order_world: World) -> World:
    return order_world


@dataclass(frozen=True)
class Sent:
    """One order as its producer knows it."""

    order_id: str
    user_id: str
    day: date
    cents: int

    @property
    def body(self) -> dict[str, Any]:
        half = self.cents // 2
        lines = [("P1", 1, half), ("P2", 1, self.cents - half)]
        return {
            "order_id": self.order_id,
            "user_id": self.user_id,
            "order_timestamp": f"{self.day}T{self.cents % 24:02d}:59:59Z",
            "order_value": self.cents / 100,
            "items": [
                {"product_id": product, "quantity": count, "price_per_unit": cents / 100}
                for product, count, cents in lines
            ],
        }


def drawn_orders(count: int, users: int, rng: random.Random) -> list[Sent]:
    return [
        Sent(
            order_id=f"ORD{number}",
            user_id=f"U{rng.randrange(users)}",
            day=FIRST_DAY + timedelta(days=rng.randrange(DAYS)),
            cents=rng.randrange(2, 100_000),
        )
        for number in range(count)
    ]


def winners(orders: Sequence[Sent], others: Sequence[Sent], rows: Sequence[Any]) -> list[Sent]:
    """Return the orders that the ledger counted: of an id with two contents, the first it saw."""
    sent = {order.order_id: [order] for order in orders}
    for order in others:
        sent[order.order_id].append(order)
    counted = {row[0]: row[1] for row in rows}
    assert counted.keys() == sent.keys()
    return [
        next(order for order in choices if order.cents == counted[order_id])
        for order_id, choices in sent.items()
    ]


def money(cents: int) -> str:
    return str(Decimal(cents).scaleb(-2))


def check_everything_adds_up(
    orders: Sequence[Sent], query: Callable[[str], list[Any]], reader: Any
) -> None:
    by_user: Counter[str] = Counter()
    count_by_user = Counter(order.user_id for order in orders)
    by_day: Counter[date] = Counter()
    count_by_day = Counter(order.day for order in orders)
    for order in orders:
        by_user[order.user_id] += order.cents
        by_day[order.day] += order.cents
    total = sum(by_user.values())

    totals = query("SELECT user_id, order_count, spend_minor FROM user_totals")
    assert {row[0]: tuple(row[1:]) for row in totals} == {
        user: (count_by_user[user], by_user[user]) for user in by_user
    }
    days = query("SELECT day, order_count, spend_minor FROM daily_totals")
    assert {str(row[0]): tuple(row[1:]) for row in days} == {
        str(day): (count_by_day[day], by_day[day]) for day in by_day
    }
    ranking = query(
        "SELECT user_id FROM user_totals WHERE currency = 'USD' "
        "ORDER BY spend_minor DESC, user_id LIMIT 20"
    )
    expected = sorted(by_user, key=lambda user: (-by_user[user], user))[:20]
    assert [row[0] for row in ranking] == expected
    for user in by_user:
        totals_in_redis = reader.hmget(f"user:{user}", "order_count", "total_spend")
        assert totals_in_redis == [str(count_by_user[user]), money(by_user[user])]
    everyone = reader.hmget("global:stats", "total_orders", "total_revenue")
    assert everyone == [str(len(orders)), money(total)]


def sqlite_query(path: Path) -> Callable[[str], list[Any]]:
    def query(statement: str) -> list[Any]:
        connection = sqlite3.connect(path)
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()

    return query


@pytest.mark.parametrize(
    "count",
    [1500, pytest.param(20_000, marks=[pytest.mark.soak, pytest.mark.timeout(900)])],
)
def test_every_sum_is_right_after_duplicates_conflicts_a_kill_and_a_redis_restart(
    world: World, count: int
) -> None:
    rng = random.Random(20)
    orders = drawn_orders(count, users=count // 20, rng=rng)
    others = [
        Sent(order.order_id, order.user_id, order.day, order.cents + 1)
        for order in rng.sample(orders, count // 50)
    ]
    deliveries = orders + others + rng.sample(orders, int(count * 0.3))
    rng.shuffle(deliveries)
    world.send(*(order.body for order in deliveries))
    port = backends.free_port()
    server = backends.start_redis(port)
    settings = {"REDIS_URL": server.url, "THREADS": "8"}

    first = world.start_worker("--stream", "orders", **settings)
    first.wait_for_log("processed ID", count=count // 10)
    first.kill()
    second = world.start_worker("--stream", "orders", "--until-empty", **settings)
    second.wait_for_log("processed ID", count=count // 10)
    server.kill()
    time.sleep(1.0)
    server = backends.start_redis(port)
    assert second.wait(600) == 0, second.log[-3000:]
    with server, redis.Redis.from_url(server.url, decode_responses=True) as reader:
        rebuilt = world.run_console("rebuild-stats", **settings)
        verified = world.run_console("verify-stats", **settings)
        query = sqlite_query(world.data_dir / "products.db")
        counted = winners(orders, others, query("SELECT order_id, value_minor FROM orders"))
        check_everything_adds_up(counted, query, reader)

    assert rebuilt.returncode == 0, rebuilt.stderr
    assert verified.returncode == 0, verified.stdout
    assert world.left_in_queue() == 0
    letters = world.dead_letters()
    assert {letter["reason"] for letter in letters} == {"order_conflict"}
    rejected = {json.loads(letter["body"])["order_id"] for letter in letters}
    assert rejected == {order.order_id for order in others}


def test_two_workers_on_postgresql_share_the_work(
    world: World, postgres_url: str, redis_url: str
) -> None:
    rng = random.Random(21)
    orders = drawn_orders(400, users=15, rng=rng)
    deliveries = orders + rng.sample(orders, 120)
    rng.shuffle(deliveries)
    world.send(*(order.body for order in deliveries))
    settings = {"DATABASE_URL": postgres_url, "REDIS_URL": redis_url, "THREADS": "4"}
    workers = [
        world.start_worker("--stream", "orders", "--until-empty", **settings) for _ in range(2)
    ]

    assert [worker.wait() for worker in workers] == [0, 0], workers[0].log[-3000:]
    engine = sqlalchemy.create_engine(postgres_url)

    def query(statement: str) -> list[Any]:
        with engine.connect() as connection:
            return list(connection.execute(sqlalchemy.text(statement)).fetchall())

    with redis.Redis.from_url(redis_url, decode_responses=True) as reader:
        check_everything_adds_up(orders, query, reader)
    engine.dispose()


def test_bad_orders_are_dead_lettered_with_their_reason_and_listed(world: World) -> None:
    world.send(
        order_body(),
        order_body(order_id="ORD2", order_value=1),
        order_body(order_id="ORD3", user_id="a:b"),
        '{"order_id": "half',
        {"id": "p1", "name": "A product", "price": 5, "image_url": "https://a.example/1.jpg"},
    )
    worker = world.start_worker("--stream", "orders", "--until-empty", "--threads", "2")

    assert worker.wait() == 0, worker.log
    reasons = {"order_total", "id_invalid", "json_invalid", "wrong_kind"}
    assert {letter["reason"] for letter in world.dead_letters()} == reasons
    query = sqlite_query(world.data_dir / "products.db")
    assert {row[0] for row in query("SELECT reason FROM rejected_orders")} == reasons
    assert query("SELECT order_id, value_minor, currency FROM orders") == [("ORD1234", 9999, "USD")]
    assert "Traceback" not in worker.log


def test_a_stop_in_the_middle_loses_nothing(world: World) -> None:
    orders = drawn_orders(300, users=10, rng=random.Random(22))
    world.send(*(order.body for order in orders))
    worker = world.start_worker("--stream", "orders", "--threads", "2", BATCH_SIZE="2")
    worker.wait_for_log("processed ID", count=10)
    worker.send_signal(signal.SIGTERM)

    assert worker.wait(30) == 0, worker.log
    again = world.start_worker("--stream", "orders", "--until-empty")
    assert again.wait() == 0, again.log
    query = sqlite_query(world.data_dir / "products.db")
    assert query("SELECT SUM(order_count) FROM user_totals") == [(300,)]


def test_products_and_orders_share_one_process(world: World, model: Mapping[str, str]) -> None:
    products, orders = world.queue_url, new_queue(world)
    world.send(*(world.product(number) for number in range(5)))
    world.queue_url = orders
    world.send(*(order_body(order_id=f"ORD{number}") for number in range(5)))
    worker = world.start_worker(
        *("--stream", "products", "--stream", "orders", "--until-empty", "--threads", "2"),
        SQS_QUEUE_URL=products,
        ORDERS_QUEUE_URL=orders,
        **model,
    )

    assert worker.wait() == 0, worker.log
    query = sqlite_query(world.data_dir / "products.db")
    assert query("SELECT COUNT(*) FROM products") == query("SELECT COUNT(*) FROM orders") == [(5,)]
    assert query("SELECT order_count FROM order_totals") == [(5,)]


def test_orders_alone_load_neither_model_nor_search() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", _LOADED_BY_ORDERS],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert loaded.stdout.split() == []


_LOADED_BY_ORDERS = """
import sys
import thread_runner, data_management
import product_consumer.orders.components
heavy = ("torch", "torchvision", "open_clip", "pymilvus", "milvus_lite", "elasticsearch")
print(*(name for name in heavy if name in sys.modules))
"""


def test_a_stream_without_its_queue_names_the_setting(tmp_path: Path) -> None:
    for arguments, setting in (
        (["--stream", "orders"], "ORDERS_QUEUE_URL"),
        (["--stream", "orders", "--stream", "products"], "ORDERS_QUEUE_URL"),
        (["--stream", "products"], "QUEUE_URL or SQS_QUEUE_URL"),
    ):
        ended = subprocess.run(
            [sys.executable, str(REPOSITORY / "thread_runner.py"), *arguments],
            env={"PATH": "/usr/bin:/bin"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 2
        [line] = ended.stderr.splitlines()
        assert f"set {setting} " in line


def test_the_producer_makes_its_queue_on_a_local_server_and_its_orders_arrive(
    world: World, tmp_path: Path
) -> None:
    settings = {
        name: value
        for name, value in world.environment.items()
        if name not in ("ORDERS_QUEUE_URL", "PYTHONPATH")
    }
    filled = subprocess.run(
        [sys.executable, str(REPOSITORY / "scripts" / "populate_sqs.py"), "--count", "200"],
        env=settings,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert filled.returncode == 0, filled.stderr
    queue_url = filled.stdout.splitlines()[0].removeprefix("ORDERS_QUEUE_URL=")
    worker = world.start_worker("--stream", "orders", "--until-empty", ORDERS_QUEUE_URL=queue_url)

    assert worker.wait() == 0, worker.log
    query = sqlite_query(world.data_dir / "products.db")
    [(counted,)] = query("SELECT COUNT(*) FROM orders")
    [(rejected,)] = query("SELECT COUNT(*) FROM rejected_orders")
    assert counted + rejected == 200
    assert 180 <= counted < 200
    delete_queue(world, queue_url)


def new_queue(world: World) -> str:
    return str(world.sqs.create_queue(QueueName=f"orders-{uuid.uuid4().hex[:12]}")["QueueUrl"])


def delete_queue(world: World, queue_url: str) -> None:
    world.sqs.delete_queue(QueueUrl=queue_url)
