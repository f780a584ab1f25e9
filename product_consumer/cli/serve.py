"""The command ``serve``: the order service in a process of its own."""

import logging

import typer

from product_consumer.api.service import order_service
from product_consumer.database.connection import open_database
from product_consumer.logs import configure_logging
from product_consumer.pipeline.backoff import Stopped
from product_consumer.runtime.exit_codes import EXIT_FATAL
from product_consumer.runtime.signals import Shutdown
from product_consumer.settings import read_settings

log = logging.getLogger(__name__)

_CHECK_SECONDS = 1.0


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("serve")(serve)


def serve() -> None:
    """Serve order statistics over HTTP until stopped: totals, rankings, days, rejections."""
    settings = read_settings()
    configure_logging(settings.log_format, settings.log_level)
    database = open_database(settings)
    try:
        with (
            Shutdown(settings.drain_seconds) as shutdown,
            order_service(settings, database, shutdown.stopping) as server,
        ):
            shutdown.consuming = True
            while not shutdown.stopping.wait(_CHECK_SECONDS):
                if server.has_ended:
                    log.error("Fatal: the order service ended by itself")
                    raise typer.Exit(EXIT_FATAL)
    except Stopped:
        return
    finally:
        database.close()
