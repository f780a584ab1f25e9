"""How fast the order service answers with a million orders of 50,000 users.

    python -m benchmarks.order_queries [--orders N] [--users N] [--seconds S] [--database URL]

Fills the tables directly, with totals that agree with the orders. Starts the service in a process
of its own and asks over HTTP on one connection, one request after another. Prints the 50th and
99th percentile of each query in milliseconds, as the client sees them. The orders are made up from
a seed: user ids follow a power law, days are the year 2024.

``--database``: an empty PostgreSQL database (``postgresql+psycopg://...``); default a new SQLite
file in a temporary directory. Needs about 0.5 GB of disk.
"""

import argparse
import http.client
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.support.program import run
from product_consumer.database.connection import Database
from product_consumer.orders import tables
from product_consumer.orders.ledger import OrderLedger
from tests.support.paths import REPOSITORY

FIRST_DAY = date(2024, 1, 1)
DAYS = 366
ROWS_PER_INSERT = 10_000
WARM_UP_REQUESTS = 50
START_SECONDS = 60.0

DrawnOrder = tuple[int, int, int, int]
"""Order number, user number, second of the year, value in minor units."""


def main() -> None:
    options = read_options()
    with tempfile.TemporaryDirectory() as scratch:
        url = options.database or f"sqlite:///{Path(scratch) / 'orders.db'}"
        started = time.perf_counter()
        fill(url, options.orders, options.users)
        seconds = time.perf_counter() - started
        print(f"{options.orders:,} orders of {options.users:,} users written in {seconds:.0f} s")
        process, port = start_service(url, options.port)
        try:
            report(port, options.users, options.seconds)
        finally:
            process.terminate()
            process.wait(20)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time the order service.")
    parser.add_argument("--orders", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=50_000)
    parser.add_argument("--seconds", type=float, default=5.0, help="per query")
    parser.add_argument("--database", help="SQLAlchemy URL of an empty PostgreSQL database")
    parser.add_argument("--port", type=int, default=18_766)
    return parser.parse_args()


def make_orders(orders: int, users: int) -> Iterator[DrawnOrder]:
    generator = random.Random(7)  # noqa: S311
    for number in range(orders):
        user = number if number < users else int(users * generator.random() ** 2)
        yield number, user, generator.randrange(DAYS * 86_400), generator.randrange(100, 50_000)


def fill(url: str, orders: int, users: int) -> None:
    database = Database(url, timeout_seconds=60.0, connections=2)
    ledger = OrderLedger(database)
    ledger.setup()
    by_user: dict[Any, list[int]] = defaultdict(lambda: [0, 0])
    by_day: dict[Any, list[int]] = defaultdict(lambda: [0, 0])
    by_user_day: dict[Any, list[int]] = defaultdict(lambda: [0, 0])
    everyone = [0, 0]

    def rows() -> Iterator[dict[str, Any]]:
        for number, user, second, value in make_orders(orders, users):
            at = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=second)
            user_id, day = f"U{user}", at.date()
            for totals in (by_user[user_id], by_day[day], by_user_day[user_id, day], everyone):
                totals[0] += 1
                totals[1] += value
            yield order_row(number, user_id, at, value)

    insert(database, tables.orders, rows())
    insert(database, tables.user_totals, (totals_row(t, 1, user_id=u) for u, t in by_user.items()))
    insert(database, tables.daily_totals, (totals_row(t, day=d) for d, t in by_day.items()))
    insert(
        database,
        tables.user_daily_totals,
        (totals_row(t, user_id=u, day=d) for (u, d), t in by_user_day.items()),
    )
    insert(database, tables.order_totals, iter([totals_row(everyone, 1)]))
    analyse(database)
    ledger.close()


def order_row(number: int, user_id: str, at: datetime, value: int) -> dict[str, Any]:
    return {
        "order_id": f"ORD{number}",
        "payload_hash": f"{number:064x}",
        "user_id": user_id,
        "ordered_at": at,
        "value_minor": value,
        "currency": "USD",
        "payment_method": None,
        "items": f'[["P{number % 5000}", 1, {value}]]',
        "recorded_at": at,
    }


def totals_row(totals: list[int], revision: int | None = None, **keys: Any) -> dict[str, Any]:
    row = keys | {"currency": "USD", "order_count": totals[0], "spend_minor": totals[1]}
    return row if revision is None else row | {"revision": revision}


def insert(database: Database, table: Any, rows: Iterator[dict[str, Any]]) -> None:
    while batch := list(islice(rows, ROWS_PER_INSERT)):
        with database.writing() as connection:
            connection.execute(table.insert(), batch)


def analyse(database: Database) -> None:
    # PostgreSQL does this by itself within minutes.
    with database.writing() as connection:
        connection.exec_driver_sql("ANALYZE")


def start_service(url: str, port: int) -> tuple[subprocess.Popen[bytes], int]:
    environment = os.environ | {
        "DATABASE_URL": url,
        "API_PORT": str(port),
        "DEFAULT_CURRENCY": "USD",
        "LOG_LEVEL": "WARNING",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "product_consumer", "serve"], cwd=REPOSITORY, env=environment
    )
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return process, port
        except OSError:
            time.sleep(0.1)
        finally:
            connection.close()
    process.kill()
    raise SystemExit("the service did not start")


def queries(users: int) -> dict[str, Callable[[random.Random], str]]:
    """Return for each query a function that draws a path with new parameters."""
    return {
        "top 10 by spend": lambda _: "/stats/top?by=spend&n=10",
        "top 10 by orders": lambda _: "/stats/top?by=orders&n=10",
        "top 100 by spend": lambda _: "/stats/top?by=spend&n=100",
        "days of a month": lambda g: f"/stats/daily?{days(g, 30)}",
        "days of a year": lambda g: f"/stats/daily?{days(g, 365)}",
        "user": lambda g: f"/users/U{g.randrange(users)}/stats",
        "user, some days": lambda g: f"/users/U{g.randrange(users)}/stats?{days(g, 90)}",
        "everyone": lambda _: "/stats/global",
    }


def days(generator: random.Random, length: int) -> str:
    start = FIRST_DAY + timedelta(days=generator.randrange(DAYS - length))
    return f"from={start}&to={start + timedelta(days=length - 1)}"


def report(port: int, users: int, seconds: float) -> None:
    print(f"{'query':<18} {'requests':>8} {'p50 ms':>8} {'p99 ms':>8}")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for name, path in queries(users).items():
        generator = random.Random(1)  # noqa: S311
        for _ in range(WARM_UP_REQUESTS):
            ask(connection, path(generator))
        taken = []
        deadline = time.perf_counter() + seconds
        while time.perf_counter() < deadline:
            taken.append(ask(connection, path(generator)))
        taken.sort()
        p50, p99 = taken[len(taken) // 2], taken[int(len(taken) * 0.99)]
        print(f"{name:<18} {len(taken):>8} {p50 * 1000:>8.2f} {p99 * 1000:>8.2f}")
    connection.close()


def ask(connection: http.client.HTTPConnection, path: str) -> float:
    """Return the seconds until the whole response was there."""
    started = time.perf_counter()
    connection.request("GET", path)
    response = connection.getresponse()
    response.read()
    taken = time.perf_counter() - started
    if response.status != 200:
        raise SystemExit(f"{path} was answered with {response.status}")
    return taken


if __name__ == "__main__":
    run(main)
