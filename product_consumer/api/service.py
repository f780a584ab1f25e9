"""Settings -> a running order service, alone or beside a worker."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING

from product_consumer.pipeline.backoff import wait_until_available
from product_consumer.settings import Settings

if TYPE_CHECKING:
    # They take half a second each; a worker without the service starts without FastAPI.
    from product_consumer.api.server import ApiServer
    from product_consumer.database.connection import Database


@contextmanager
def order_service(
    settings: Settings, database: "Database", stopping: Event
) -> "Iterator[ApiServer]":
    """Serve on ``API_HOST`` and ``API_PORT`` during the block.

    The block begins once the database has its tables. Raises ``Stopped`` when asked to stop before
    that, and ``ConfigurationError`` when the address cannot be listened on.
    """
    from product_consumer.api.app import create_app
    from product_consumer.api.server import ApiServer
    from product_consumer.orders.ledger import OrderLedger
    from product_consumer.quality.store import QualityStore
    from product_consumer.streams.results import ResultStore

    ledger, flags, results = OrderLedger(database), QualityStore(database), ResultStore(database)
    for tables in (ledger, flags, results):
        wait_until_available(tables.setup, stopping, "The order service waits to start")
    key = None if settings.api_key is None else settings.api_key.get_secret_value()
    currency = settings.default_currency
    app = create_app(
        ledger,
        default_currency=currency,
        quality=flags,
        results=results,
        api_key=key,
        stopping=stopping,
    )
    server = ApiServer(app, host=settings.api_host, port=settings.api_port, has_key=key is not None)
    server.start()
    try:
        yield server
    finally:
        server.stop()
