"""Whether the ledger's calls for a message cost more when the ledger is large.

    python -m benchmarks.ledger_size [--products N ...] [--prices N] [--rounds N]

Starts a PostgreSQL of its own and fills it with products (two embeddings of 768 numbers each) and
their prices. Then it times the calls that a batch makes for ``BATCH`` products at once: medians in
milliseconds, client included. The last column is the size of one price-only update in
PostgreSQL's write-ahead log, in bytes, without copies of whole pages. 300,000 products with 10
prices each need 1.5 GB of disk.
"""

import argparse
import random
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count

from sqlalchemy import text

from benchmarks.support.measuring import markdown, middle
from benchmarks.support.program import command, print_progress, run
from product_consumer.database.connection import Database
from product_consumer.ledger.ledger import Ledger
from product_consumer.ledger.rows import ProductChange
from product_consumer.models import ImageSource
from tests.support import backends, factories

BATCH = 100
RECENT_PRICES = 20
DIMENSION = 768
EMBEDDINGS = factories.embeddings(1, DIMENSION)

# The ledger itself records one product; the others are copies of its row.
MORE_PRODUCTS = """
    INSERT INTO products SELECT (copy).* FROM (
        SELECT jsonb_populate_record(products, jsonb_build_object(
            'id', 'p' || number, 'image_sha256', lpad('p' || number, 64, '0'), 'check_after', NULL
        )) AS copy
        FROM products, generate_series(CAST(:first AS bigint), :last) AS numbers(number)
        WHERE products.id = 'seed'
    ) AS copies
"""
MORE_PRICES = """
    INSERT INTO price_history
    SELECT 'p' || number, to_timestamp(86400 * day), 100 + day, 'EUR'
    FROM generate_series(CAST(:first AS bigint), :last) AS numbers(number),
         generate_series(1, CAST(:prices AS bigint)) AS days(day)
"""
LOG_BYTES = "SELECT CAST(pg_current_wal_insert_lsn() - '0/0' AS bigint)"


def main() -> None:
    options = read_options()
    with backends.start_postgres() as server:
        url = backends.create_database(server.url, "ledger_size")
        database = Database(url, timeout_seconds=600, connections=2)
        ledger = Ledger(database, repair_horizon_seconds=300)
        ledger.setup()
        ledger.claim_model("benchmark/none", DIMENSION)
        with database.reading() as connection:
            # Copies of whole pages, after each checkpoint, would hide the bytes of an update.
            connection.execute(text("ALTER SYSTEM SET full_page_writes = off"))
            connection.execute(text("SELECT pg_reload_conf()"))
        benchmark = Benchmark(ledger, options.rounds)
        rows = [benchmark.run(size, options.prices) for size in sorted(options.products)]
        ledger.close()
    print(f"{command()}\n")
    print(f"Milliseconds for {BATCH} products; {options.prices} prices of each product.\n")
    names = ("look up", "record", "revisions", f"last {RECENT_PRICES} prices", "check", "log bytes")
    print(markdown(("products", *names), rows))


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time the ledger at several sizes.")
    parser.add_argument("--products", type=int, nargs="+", default=[3_000, 30_000, 300_000])
    parser.add_argument("--prices", type=int, default=10, help="in the history of each product")
    parser.add_argument("--rounds", type=int, default=20)
    return parser.parse_args()


class Benchmark:
    """Grows one ledger and times it."""

    def __init__(self, ledger: Ledger, rounds: int) -> None:
        self._ledger = ledger
        self._rounds = rounds
        self._generator = random.Random(3)  # noqa: S311
        self._versions = count(2)
        self._size = 0
        ledger.record([self._change("seed", 1)])

    def run(self, size: int, prices: int) -> Sequence[object]:
        """Grow to ``size`` products; return a row of the table."""
        print_progress(f"filling up to {size} products")
        self._grow(size, prices)
        ledger = self._ledger
        log_bytes: list[float] = []
        times = (
            self._time(lambda changes: ledger.look_up([change.product for change in changes])),
            self._time(ledger.record, log_bytes),
            self._time(lambda changes: ledger.revisions(_ids(changes))),
            self._time(lambda changes: ledger.recent_prices(_ids(changes), RECENT_PRICES)),
            self._time(lambda _: ledger.describe()),
        )
        cells = (f"{milliseconds:.1f}" for milliseconds in times)
        return (f"{size:,}", *cells, f"{middle(log_bytes):.0f}")

    def _grow(self, size: int, prices: int) -> None:
        numbers = {"first": self._size, "last": size - 1}
        with self._ledger.database.writing() as connection:
            connection.execute(text(MORE_PRODUCTS), numbers)
            connection.execute(text(MORE_PRICES), numbers | {"prices": prices})
            # PostgreSQL does this by itself within minutes.
            connection.execute(text("ANALYZE"))
        self._size = size

    def _time(
        self, call: Callable[[list[ProductChange]], object], log_bytes: list[float] | None = None
    ) -> float:
        """Return the median milliseconds of its runs.

        ``log_bytes`` gets the log bytes of each run, per product.
        """
        taken = []
        for _ in range(self._rounds):
            version = next(self._versions)
            numbers = self._generator.sample(range(self._size), BATCH)
            changes = [self._change(f"p{number}", version) for number in numbers]
            before = self._log_bytes()
            started = time.perf_counter()
            call(changes)
            taken.append(1000 * (time.perf_counter() - started))
            if log_bytes is not None:
                log_bytes.append((self._log_bytes() - before) / BATCH)
        return middle(taken)

    def _log_bytes(self) -> int:
        with self._ledger.database.reading() as connection:
            return int(connection.execute(text(LOG_BYTES)).scalar_one())

    def _change(self, product_id: str, version: int) -> ProductChange:
        """Return another price of a product whose name and image stay."""
        product = factories.product(
            id=product_id,
            version=factories.version(version),
            price_minor=1000 + version,
            observed_at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=version),
        )
        image_source = ImageSource(f"{product_id:0>64}", '"tag"', None)
        return ProductChange(product, EMBEDDINGS, image_source)


def _ids(changes: Sequence[ProductChange]) -> list[str]:
    return [change.product.id for change in changes]


if __name__ == "__main__":
    run(main)
