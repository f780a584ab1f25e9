"""The order service as a command of its own, or beside a worker."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING

import typer

from product_consumer.database.connection import Database, open_database
from product_consumer.logs import configure_logging
from product_consumer.pipeline.backoff import retry_until_available
from product_consumer.runtime.signals import EXIT_FATAL, Stop
from product_consumer.settings import Settings, read_settings

if TYPE_CHECKING:
    # FastAPI takes half a second; the console's other commands start without it.
    from product_consumer.api.server import ApiServer

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0


def register(app: typer.Typer) -> None:
    """Add the command to the console."""
    app.command("serve")(serve)


def serve() -> None:
    """Answer questions about orders over HTTP until stopped: totals, rankings, days, rejections."""
    settings = read_settings()
    configure_logging(settings.log_format, settings.log_level)
    with Stop(settings.drain_seconds) as stop:
        database = open_database(settings)
        try:
            with order_service(settings, database, stop.requested) as server:
                stop.consuming = True
                while server is not None and not stop.requested.wait(_LOOK_SECONDS):
                    if server.has_ended:
                        log.error("Fatal: the order service ended by itself")
                        raise typer.Exit(EXIT_FATAL)
        finally:
            database.close()


@contextmanager
def order_service(
    settings: Settings, database: Database, stopping: Event
) -> Iterator["ApiServer | None"]:
    """Serve on ``API_HOST`` and ``API_PORT`` inside the block, which begins once the database has
    its tables; None when asked to stop before that.

    Raises ``ConfigurationError`` when the address cannot be listened on.
    """
    from product_consumer.api.app import create_app
    from product_consumer.api.server import ApiServer
    from product_consumer.orders.ledger import OrderLedger
    from product_consumer.quality.store import QualityStore

    ledger, flags = OrderLedger(database), QualityStore(database)
    waiting = "The order service waits to start"
    if not all(retry_until_available(each.setup, stopping, waiting) for each in (ledger, flags)):
        yield None
        return
    key = None if settings.api_key is None else settings.api_key.get_secret_value()
    currency = settings.default_currency
    app = create_app(ledger, default_currency=currency, quality=flags, api_key=key)
    server = ApiServer(app, host=settings.api_host, port=settings.api_port, has_key=key is not None)
    server.start()
    try:
        yield server
    finally:
        server.stop()
