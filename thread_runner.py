"""Run the worker: ``python thread_runner.py [--stream products|orders]... [--processes N]
[--threads N] [--until-empty] [--serve] [--demo [--catalog DIR]]``.

Settings become parts, parts become N consumer threads; a signal drains them. With several processes
this one only watches over the others, each of which is this program again.

Exit codes: 0 done or drained, 1 second signal, 2 wrong usage or nothing configured, 70 fatal error
(start me again), 78 configuration that cannot work (do not start me again).
"""

import signal
import sys

if __name__ == "__main__":
    # Before anything slow: a stop while the interpreter still loads modules is a clean one too.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))

import argparse
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from product_consumer.errors import ConfigurationError, FatalError
from product_consumer.logs import configure_logging
from product_consumer.pipeline.stages import stage_limits
from product_consumer.runtime.child_process import (
    end_with_parent,
    worker_command,
    worker_environment,
)
from product_consumer.runtime.options import ORDERS, PRODUCTS, read_options
from product_consumer.runtime.processes import PARENT_GRACE_SECONDS, ProcessSupervisor
from product_consumer.runtime.signals import Stop, leave
from product_consumer.runtime.startup import open_order_parts, open_parts
from product_consumer.runtime.supervisor import (
    EXIT_CONFIGURATION,
    EXIT_FATAL,
    EXIT_OK,
    EXIT_USAGE,
    Source,
    Supervisor,
    dump_stacks_on_request,
)
from product_consumer.runtime.systemd import Notifier
from product_consumer.settings import Settings, read_settings, read_systemd_environment

if TYPE_CHECKING:
    from data_management import Pipeline
    from product_consumer.embedding.embedder import Embedder
    from product_consumer.metrics import Metrics
    from product_consumer.models import Product
    from product_consumer.orders.components import OrderParts
    from product_consumer.orders.models import Order
    from product_consumer.products.components import Parts

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stream:
    """One kind of message: where it comes from and what is done with it."""

    source: Source
    pipeline: "Pipeline"
    metrics: "Metrics"
    alongside: AbstractContextManager[object] | None = None
    """What runs beside the consumers."""
    embedder: "Embedder | None" = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until stopped, or until the queue is empty; return the exit code."""
    options = read_options(arguments)
    try:
        settings = _settings(options)
        if options.process_number is not None:
            _greet_parent()
        if options.demo:
            return _run_demo(settings, options.catalog)
        names = options.stream or [PRODUCTS]
        missing = _first_without_queue(settings, names)
        if missing is not None:
            return _nothing_configured(missing)
        if settings.processes > 1:
            given = sys.argv[1:] if arguments is None else arguments
            return _run_processes(settings, given, until_empty=options.until_empty)
        # One of several is enough to answer questions, and only one can have the port.
        serve = options.serve and options.process_number in (None, 1)
        return _run_worker(settings, names, until_empty=options.until_empty, serve=serve)
    except ConfigurationError as error:
        print(f"Cannot start: {error}", file=sys.stderr)
        return EXIT_CONFIGURATION
    except FatalError as error:
        log.error("Fatal: %s", error)
        return EXIT_FATAL


def _settings(options: argparse.Namespace) -> Settings:
    given = {"threads": options.threads, "processes": options.processes}
    settings = read_settings(**{name: value for name, value in given.items() if value is not None})
    configure_logging(settings.log_format, settings.log_level, options.process_number)
    return settings


def _greet_parent() -> None:
    dump_stacks_on_request()
    end_with_parent()
    # From now on it may ask for the stacks.
    Notifier(read_systemd_environment()).status("Starting")


def _first_without_queue(settings: Settings, names: Sequence[str]) -> str | None:
    """Return the setting that a chosen stream needs and that is not set."""
    urls = {
        PRODUCTS: ("SQS_QUEUE_URL", settings.sqs_queue_url),
        ORDERS: ("ORDERS_QUEUE_URL", settings.orders_queue_url),
    }
    return next((setting for setting, url in map(urls.__getitem__, names) if url is None), None)


def _nothing_configured(setting: str) -> int:
    print(
        f"Nothing to consume: set {setting} (see .env.example), "
        "or run `python thread_runner.py --demo` to see the worker at work.",
        file=sys.stderr,
    )
    return EXIT_USAGE


def _run_processes(settings: Settings, arguments: Sequence[str], *, until_empty: bool) -> int:
    notifier = Notifier(read_systemd_environment())
    with Stop(settings.drain_seconds + PARENT_GRACE_SECONDS, notifier) as stop:
        supervisor = ProcessSupervisor(
            stop,
            settings.processes,
            partial(worker_command, arguments),
            partial(worker_environment, settings),
            drain_seconds=settings.drain_seconds,
            ends_when_empty=until_empty,
        )
        return supervisor.run()


def _run_worker(
    settings: Settings,
    names: Sequence[str],
    *,
    until_empty: bool,
    serve: bool,
    wait_for: threading.Event | None = None,
) -> int:
    from product_consumer.cli.serve import order_service
    from product_consumer.metrics import Metrics
    from product_consumer.quality.opening import open_quality_checker
    from product_consumer.runtime.health_server import serving

    metrics, database = Metrics(), None
    with _stop(settings) as stop, serving(settings, metrics, stop), ExitStack() as opened:
        streams: list[Stream] = []
        if PRODUCTS in names:
            parts = open_parts(settings, stop.requested, metrics=metrics)
            if parts is None:
                return EXIT_OK
            opened.callback(parts.close)
            database = parts.ledger.database
            quality = open_quality_checker(
                settings, database, products=parts.ledger, count=metrics.count_quality
            )
            opened.callback(quality.stop)
            streams.append(_product_stream(settings, parts, stop, quality.check_product))
        if ORDERS in names:
            order_parts = open_order_parts(settings, stop.requested, metrics, database)
            if order_parts is None:
                return EXIT_OK
            opened.callback(order_parts.close)
            database = order_parts.ledger.database
            quality = open_quality_checker(
                settings, database, orders=order_parts.ledger, count=metrics.count_quality
            )
            opened.callback(quality.stop)
            streams.append(_order_stream(order_parts, stop, quality.submit))
        if serve and database is not None:
            opened.enter_context(order_service(settings, database, stop.requested))
        return _consume(settings, streams, stop, until_empty=until_empty, wait_for=wait_for)


def _run_demo(settings: Settings, catalogue: Path | None) -> int:
    try:
        from product_consumer.demo.run import Demo
    except ModuleNotFoundError as error:
        # moto and the like are development dependencies; `make demo` installs them.
        raise ConfigurationError(
            "--demo", f"needs {error.name}: pip install -r requirements-dev.txt"
        ) from error

    with Demo(settings, catalogue) as demo:
        return demo.run(
            lambda local: _run_worker(
                local, (PRODUCTS, ORDERS), until_empty=True, serve=False, wait_for=demo.published
            )
        )


def _stop(settings: Settings) -> Stop:
    dump_stacks_on_request()
    return Stop(settings.drain_seconds, Notifier(read_systemd_environment()))


def _product_stream(
    settings: Settings,
    parts: "Parts",
    stop: Stop,
    on_stored: "Callable[[Product], None] | None" = None,
) -> Stream:
    from data_management import ProductPipeline
    from product_consumer.ledger.pending_checks import LedgerMarks
    from product_consumer.sync.sweeper import Sweeper

    embedder = parts.load_model()
    embedder.watch_passes(parts.metrics.observe_forward_pass)
    pipeline = ProductPipeline(
        parts.parser,
        parts.fetcher,
        parts.decoder,
        embedder,
        parts.ledger,
        parts.stores.all,
        parts.in_flight,
        parts.metrics,
        stop.requested,
        max_attempts=settings.max_attempts,
        on_stored=on_stored,
    )
    horizon_seconds = settings.repair_horizon_seconds
    marks = LedgerMarks(parts.ledger.database, repair_horizon_seconds=horizon_seconds)
    sweeper = Sweeper(parts.ledger, marks, parts.stores.all, repair_horizon_seconds=horizon_seconds)
    parts.metrics.watch_marks(marks.count)
    source = Source(parts.queue, parts.in_flight)
    sweeping = sweeper.running(stop.requested, lambda: parts.metrics.beats.at("sweep"))
    return Stream(source, pipeline, parts.metrics, sweeping, embedder)


def _order_stream(
    parts: "OrderParts", stop: Stop, on_counted: "Callable[[Order], None] | None" = None
) -> Stream:
    pipeline = parts.pipeline(stop.requested, on_counted)
    return Stream(Source(parts.queue, parts.in_flight), pipeline, parts.metrics)


def _consume(
    settings: Settings,
    streams: Sequence[Stream],
    stop: Stop,
    *,
    until_empty: bool,
    wait_for: threading.Event | None = None,
) -> int:
    """Run every stream's consumers under one supervisor; return the exit code."""
    from data_management import Consumer

    # A short poll ends soon after the queue ran empty.
    wait_seconds = min(settings.sqs_wait_seconds, 2) if until_empty else settings.sqs_wait_seconds
    consumers = [
        Consumer(
            first + number,
            stream.source.queue,
            stream.pipeline,
            stream.source.in_flight,
            stream.metrics,
            batch_size=settings.batch_size,
            wait_seconds=wait_seconds,
        )
        for first, stream in zip(count(1, settings.threads), streams, strict=False)
        for number in range(settings.threads)
    ]
    supervisor = _supervisor(settings, streams, stop)
    look_seconds = None
    if until_empty:
        # AWS's own counts lag by up to a minute; servers that speak its API count exactly.
        look_seconds = 1.0 if settings.aws_endpoint_url else 30.0
    with ExitStack() as running:
        for stream in streams:
            if stream.alongside is not None:
                running.enter_context(stream.alongside)
        return supervisor.run(
            [consumer.consume for consumer in consumers],
            look_seconds=look_seconds,
            wait_for=wait_for,
        )


def _supervisor(settings: Settings, streams: Sequence[Stream], stop: Stop) -> Supervisor:
    """A supervisor that knows how long each stage may take with these settings."""
    metrics = streams[0].metrics
    embedder = next((each.embedder for each in streams if each.embedder is not None), None)
    metrics.beats.limits = stage_limits(
        wait_seconds=settings.sqs_wait_seconds,
        store_timeout_seconds=settings.store_timeout_seconds,
        image_timeout_seconds=settings.image_timeout_seconds,
        answer_seconds=0.0 if embedder is None else embedder.answer_seconds,
    )

    def broken() -> str | None:
        return "the model thread died" if embedder is not None and embedder.failed else None

    return Supervisor(
        stop,
        [stream.source for stream in streams],
        metrics,
        drain_seconds=settings.drain_seconds,
        broken=broken,
    )


if __name__ == "__main__":
    leave(main())
