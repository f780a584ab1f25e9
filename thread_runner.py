"""Run the worker: ``python thread_runner.py [--threads N] [--until-empty] [--demo [--catalog
DIR]]``.

Settings become parts, parts become N consumer threads; a signal drains them.

Exit codes: 0 done or drained, 1 second signal, 2 wrong usage or nothing configured, 70 fatal error
(start me again), 78 configuration that cannot work (do not start me again).
"""

import argparse
import logging
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from product_consumer.backoff import Backoff
from product_consumer.errors import ConfigurationError, FatalError, Unavailable
from product_consumer.logs import configure_logging
from product_consumer.settings import Settings, read_settings
from product_consumer.supervision import (
    EXIT_CONFIGURATION,
    EXIT_FATAL,
    EXIT_OK,
    EXIT_USAGE,
    Stop,
    Supervisor,
)

if TYPE_CHECKING:
    from product_consumer.parts import Parts

log = logging.getLogger(__name__)

T = TypeVar("T")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until stopped, or until the queue is empty; return the exit code."""
    options = _read_options(arguments)
    try:
        settings = _settings(options)
        if options.demo:
            return _run_demo(settings, options.catalog)
        if settings.sqs_queue_url is None:
            return _nothing_configured()
        return _run_worker(settings, until_empty=options.until_empty)
    except ConfigurationError as error:
        print(f"Cannot start: {error}", file=sys.stderr)
        return EXIT_CONFIGURATION
    except FatalError as error:
        log.error("Fatal: %s", error)
        return EXIT_FATAL


def _read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="thread_runner.py",
        description="Consume product messages from SQS and make each product searchable.",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="consumer threads (default 10)")
    parser.add_argument(
        "--until-empty",
        action="store_true",
        help="end when the queue has twice in a row reported no message, waiting or in flight",
    )
    parser.add_argument(
        "--demo",
        action="store_true",
        help="show the whole job on a sample catalogue with local servers, then exit",
    )
    parser.add_argument(
        "--catalog", type=Path, metavar="DIR", help="with --demo: products.json and images/ to use"
    )
    options = parser.parse_args(arguments)
    if options.catalog is not None and not options.demo:
        parser.error("--catalog goes with --demo")
    if options.threads is not None and not 1 <= options.threads <= 256:
        parser.error("--threads takes a whole number from 1 to 256")
    return options


def _settings(options: argparse.Namespace) -> Settings:
    overrides = {} if options.threads is None else {"threads": options.threads}
    settings = read_settings(**overrides)
    configure_logging(settings.log_format, settings.log_level)
    return settings


def _nothing_configured() -> int:
    print(
        "Nothing to consume: set SQS_QUEUE_URL (see .env.example), "
        "or run `python thread_runner.py --demo` to see the worker at work.",
        file=sys.stderr,
    )
    return EXIT_USAGE


def _run_worker(settings: Settings, *, until_empty: bool) -> int:
    with Stop() as stop:
        parts = _open_parts(settings, stop)
        if parts is None:
            return EXIT_OK
        try:
            return _consume(settings, parts, stop, until_empty=until_empty)
        finally:
            parts.close()


def _run_demo(settings: Settings, catalogue: Path | None) -> int:
    # The demo needs moto, a development dependency, so nothing else imports it.
    from product_consumer.demo.show import Demo

    with Stop() as stop, Demo(settings, catalogue) as demo:
        parts = _open_parts(demo.settings, stop, created_by="demo")
        if parts is None:
            return EXIT_OK
        try:
            demo.start(parts.metrics, stop.requested)
            code = _consume(demo.settings, parts, stop, until_empty=True, wait_for=demo.published)
            if code == EXIT_OK:
                demo.summarise(parts)
            return code
        finally:
            parts.close()


def _open_parts(settings: Settings, stop: Stop, created_by: str = "worker") -> "Parts | None":
    """Open queue, ledger, model and stores, waiting for what is down; None when stopped."""
    # Imported here: torch takes seconds, and a wrong setting must be reported before that.
    from product_consumer.parts import Parts

    parts = Parts(settings)
    steps = (
        parts.open_queue,
        lambda: parts.open_ledger(created_by),
        parts.load_model,
        parts.open_stores,
    )
    for step in steps:
        if not _retry_until_available(step, stop.requested):
            parts.close()
            return None
    return parts


def _retry_until_available(step: Callable[[], object], stopping: threading.Event) -> bool:
    backoff = Backoff(1.0, 30.0)
    while not stopping.is_set():
        try:
            step()
        except Unavailable as error:
            log.warning("Waiting to start: %s", error)
            backoff.wait(stopping)
        else:
            return True
    return False


def _consume(
    settings: Settings,
    parts: "Parts",
    stop: Stop,
    *,
    until_empty: bool,
    wait_for: threading.Event | None = None,
) -> int:
    from data_management import Consumer, ProductPipeline

    # A short poll ends soon after the queue ran empty.
    wait_seconds = min(settings.sqs_wait_seconds, 2) if until_empty else settings.sqs_wait_seconds
    pipeline = ProductPipeline(
        parts.parser,
        parts.fetcher,
        parts.decoder,
        parts.load_model(),
        parts.ledger,
        parts.stores.all,
        parts.in_flight,
        parts.metrics,
        stop.requested,
        max_attempts=settings.max_attempts,
    )
    consumers = [
        Consumer(
            number,
            parts.queue,
            pipeline,
            parts.in_flight,
            parts.metrics,
            batch_size=settings.batch_size,
            wait_seconds=wait_seconds,
        )
        for number in range(1, settings.threads + 1)
    ]
    supervisor = Supervisor(
        stop, parts.queue, parts.in_flight, drain_seconds=settings.drain_seconds
    )
    look_seconds = None
    if until_empty:
        # AWS's own counts lag by up to a minute; servers that speak its API count exactly.
        look_seconds = 1.0 if settings.aws_endpoint_url else 30.0
    return supervisor.run(
        [consumer.consume for consumer in consumers], look_seconds=look_seconds, wait_for=wait_for
    )


if __name__ == "__main__":
    sys.exit(main())
