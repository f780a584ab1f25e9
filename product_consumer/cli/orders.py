"""Commands of the order stream: publish orders, rebuild and verify the statistics in Redis."""

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from product_consumer.cli.configuration import command_settings
from product_consumer.errors import ConfigurationError
from product_consumer.queue_addresses import QueueAddress, StreamName
from product_consumer.settings import Settings
from product_consumer.text import printable

if TYPE_CHECKING:
    # Loaded by the command that needs them: the other commands start without.
    from product_consumer.orders.ledger import OrderLedger
    from product_consumer.orders.redis.rebuild import Progress
    from product_consumer.orders.redis.stats import RedisStats

EXIT_DIFFERENT = 1
_FALLBACK_CURRENCY = "USD"


def publish_orders(
    count: Annotated[int, typer.Option(min=1, help="How many orders.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same orders.")] = 1,
    users: Annotated[int, typer.Option(min=1, help="How many different customers.")] = 500,
    days: Annotated[int, typer.Option(min=1, max=3650, help="Over how many past days.")] = 30,
    until: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The last day (default: today).")
    ] = None,
    bad_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share that must be rejected.")
    ] = 0.02,
) -> None:
    """Send realistic orders to ORDERS_QUEUE_URL, a share of them bad or untidy on purpose."""
    settings = command_settings()
    address = settings.queue_of(StreamName.ORDERS)
    sent = _publish(settings, address, count, seed, users, days, until, bad_share)
    print(f"Published {sent} orders")


def populate(
    count: Annotated[int, typer.Option(min=1, help="How many orders.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same orders.")] = 1,
) -> None:
    """Send realistic orders to ORDERS_QUEUE_URL; where none is set, create the queue first on the
    local server at AWS_ENDPOINT_URL.
    """
    from product_consumer.queues.opening import set_up_queue

    settings = command_settings()
    address = settings.queue_of(StreamName.ORDERS)
    if address.url is None and settings.aws_endpoint_url is not None:
        address = replace(address, url=set_up_queue(settings, address.stream, "orders").queue_url)
        print(f"{address.url_setting}={address.url}")
    print(f"Published {_publish(settings, address, count, seed)} orders")


def rebuild(
    force: Annotated[
        bool,
        typer.Option(
            help="Overwrite newer numbers and remove unknown users, as after restoring the "
            "ledger from a backup. Stop every worker first."
        ),
    ] = False,
) -> None:
    """Write all order statistics from the ledger to Redis; a running worker may go on."""
    from product_consumer.orders.redis.rebuild import rebuild_stats

    with _opened() as (ledger, stats), _progress("Rebuilding") as progress:
        stats.probe()
        written = rebuild_stats(ledger, stats, progress, force=force)
    print(f"Wrote {written} keys")


def verify() -> None:
    """Compare the order statistics in Redis with the ledger; exit 1 when they differ."""
    from product_consumer.orders.redis.rebuild import verify_stats

    with _opened() as (ledger, stats), _progress("Verifying") as progress:
        result = verify_stats(ledger, stats, progress)
    print(f"Compared {result.compared} keys: {result.differing} differ, {result.unknown} unknown")
    for key in result.examples:
        print(f"  {printable(key)}")
    if not result.is_right:
        raise typer.Exit(EXIT_DIFFERENT)


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("publish-orders")(publish_orders)
    app.command("rebuild-stats")(rebuild)
    app.command("verify-stats")(verify)


def _publish(
    settings: Settings,
    address: QueueAddress,
    count: int,
    seed: int,
    users: int = 500,
    days: int = 30,
    until: datetime | None = None,
    bad_share: float = 0.02,
) -> int:
    from tqdm import tqdm

    from product_consumer.orders.generator import Producer
    from product_consumer.queues.opening import open_sender

    producer = Producer(
        seed=seed,
        users=users,
        days=days,
        last_day=(until or datetime.now(UTC)).date(),
        currency=settings.default_currency or _FALLBACK_CURRENCY,
        bad_share=bad_share,
    )
    with closing(open_sender(settings, address)) as sender:
        bodies = tqdm(producer.messages(count), total=count, unit="order", disable=None)
        return sender.publish(bodies)


@contextmanager
def _opened() -> Iterator[tuple["OrderLedger", "RedisStats"]]:
    from product_consumer.orders.ledger import open_order_ledger
    from product_consumer.orders.redis.stats import open_redis_stats

    settings = command_settings()
    stats = open_redis_stats(settings)
    if stats is None:
        raise ConfigurationError("REDIS_URL", "not set: needs the Redis that serves the statistics")
    ledger = open_order_ledger(settings)
    try:
        ledger.setup()
        yield ledger, stats
    finally:
        ledger.close()
        stats.close()


@contextmanager
def _progress(title: str) -> Iterator["Progress"]:
    from tqdm import tqdm

    with tqdm(desc=title, unit="key", file=sys.stderr, disable=None) as bar:

        def advance(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield advance
