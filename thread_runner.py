"""Run the worker: ``python thread_runner.py [--stream products|orders]... [--processes N]
[--threads N] [--until-empty] [--serve] [--demo [--catalog DIR]]``.

Options become settings, settings become streams, and each stream gets N consumer threads; a signal
drains them. With several processes, this process only supervises; the others run this program, too.
Exit codes: ``product_consumer/runtime/exit_codes.py``.
"""

from product_consumer.runtime.early_exit import guard_start

if __name__ == "__main__":
    guard_start()  # before the slow imports, so that a stop meanwhile is clean, too

import threading
from collections.abc import Sequence

from product_consumer.api.service import order_service
from product_consumer.queue_addresses import StreamName
from product_consumer.runtime.exit_codes import exit_code_of_errors
from product_consumer.runtime.options import Options, read_options
from product_consumer.runtime.processes import run_processes
from product_consumer.runtime.signals import leave
from product_consumer.runtime.stream import Stream
from product_consumer.runtime.worker import Worker
from product_consumer.settings import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until stopped, or until the queues are empty; return the exit code."""
    with exit_code_of_errors() as ending:
        options = read_options(arguments)
        settings = options.prepare()
        if options.demo:
            ending.code = run_demo(settings, options)
        elif settings.processes > 1:
            ending.code = run_processes(settings, options)
        else:
            ending.code = run_worker(settings, options)
    return ending.code


def run_worker(settings: Settings, options: Options, may_end: threading.Event | None = None) -> int:
    """Consume the chosen streams; an empty queue ends nothing before ``may_end`` is set."""
    from data_management import Consumer

    with Worker(settings, options) as worker:
        for name in options.streams:
            worker.add(OPENERS[name](settings, worker))
        if options.serves:
            worker.enter(order_service(settings, worker.database, worker.context.stopping))
        return worker.run(Consumer, may_end)


def run_demo(settings: Settings, options: Options) -> int:
    """Run the same worker between local servers, a producer and a summary."""
    from product_consumer.demo.opening import open_demo

    with open_demo(settings, options.catalog) as demo:
        return demo.run(lambda local: run_worker(local, options.for_demo(), demo.published))


def open_products(settings: Settings, worker: Worker) -> Stream:
    """Open the product stream: queue, images, model, ledger, stores, sweeper and checks."""
    # Imported here: torch takes seconds, and a wrong setting must be reported before that.
    from data_management import ProductPipeline
    from product_consumer.products.components import ProductComponents
    from product_consumer.quality.opening import open_product_checks
    from product_consumer.sync.sweeper import open_sweeper

    context = worker.context
    components = worker.open(ProductComponents(settings, context, worker.database))
    ledger, shared = components.ledger, components.shared_stores()
    pipeline = ProductPipeline(
        components.parser,
        components.fetcher,
        components.decoder,
        components.embedder,
        shared,
        components.in_flight,
        context,
        max_attempts=settings.max_attempts,
        on_stored=worker.enter(open_product_checks(settings, ledger, context.metrics)),
    )
    return Stream(
        components.queue,
        components.in_flight,
        pipeline,
        background=open_sweeper(settings, ledger, components.stores.all, context),
        failure=components.model_failure,
        leave=shared.ledger.leave,
        answer_seconds=components.embedder.answer_seconds,
    )


def open_orders(settings: Settings, worker: Worker) -> Stream:
    """Open the order stream: queue, ledger and, where configured, Redis."""
    # Nothing here loads torch, Milvus or Elasticsearch: orders alone start at once.
    from product_consumer.orders.components import OrderComponents
    from product_consumer.quality.opening import open_order_checks

    components = worker.open(OrderComponents(settings, worker.context, worker.database))
    checks = open_order_checks(settings, components.ledger, worker.context.metrics)
    pipeline = components.pipeline(on_counted=worker.enter(checks))
    return Stream(components.queue, components.in_flight, pipeline)


OPENERS = {StreamName.PRODUCTS: open_products, StreamName.ORDERS: open_orders}

if __name__ == "__main__":
    leave(main())
