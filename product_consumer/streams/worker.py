"""Runs one pipeline on the queue of one data stream: a worker process from its start to its end."""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from product_consumer.pipeline.consumer import Consumer
from product_consumer.queues.base import MAX_RECEIVED, MessageQueue
from product_consumer.queues.in_flight import InFlightTracker
from product_consumer.queues.rabbitmq.url import AmqpUrl
from product_consumer.runtime.exit_codes import exit_code_of_errors
from product_consumer.runtime.options import Options
from product_consumer.runtime.stream import Stream
from product_consumer.runtime.worker import Worker
from product_consumer.settings import Settings

log = logging.getLogger(__name__)

# A stop waits for it. It costs the server nothing: messages are waited for in this process.
_WAIT_SECONDS = 1

OpenStream = Callable[[Worker, MessageQueue, InFlightTracker], Stream]
"""Makes the stream of an open queue.

It opens what the pipeline needs by ``worker.open`` and ``worker.enter``, which close it in the end.
``worker.context`` and ``worker.database`` are the ones of the process.
"""


def run_stream(
    url: AmqpUrl,
    settings: Settings,
    open_stream: OpenStream,
    *,
    threads: int,
    batch_size: int = MAX_RECEIVED,
    until_empty: bool = False,
) -> int:
    """Consume a queue until stopped, or until it is empty; return the exit code.

    For the main thread, once logging is set up. The queue is made when it is missing. A first
    SIGTERM or SIGINT drains the threads and ends with 0. Errors that end the process are told in
    one line, as ``runtime/exit_codes.py`` lists them. ``batch_size``: RabbitMQ has no limit
    of its own.
    """
    own = settings.model_copy(
        update={"threads": threads, "batch_size": batch_size, "sqs_wait_seconds": _WAIT_SECONDS}
    )
    with (
        exit_code_of_errors() as ending,
        Worker(own, Options((), until_empty=until_empty)) as worker,
    ):
        source = worker.open(_Source(url, own))
        worker.add(open_stream(worker, source.queue, source.in_flight))
        ending.code = worker.run(Consumer)
    return ending.code


class _Source:
    """The queue of a data stream, as components of a worker."""

    queue: MessageQueue
    in_flight: InFlightTracker

    def __init__(self, url: AmqpUrl, settings: Settings) -> None:
        self._url = url
        self._settings = settings
        self._closing = ExitStack()

    def opening_steps(self) -> Sequence[Callable[[], object]]:
        """Return the only step: to connect."""
        return (self.open_queue,)

    def open_queue(self) -> None:
        """Connect to the queue, and make it when it is missing."""
        # Imported here: a wrong setting is reported before the client is loaded.
        from product_consumer.queues.rabbitmq.opening import open_stream_queue

        settings = self._settings
        queue = open_stream_queue(
            self._url,
            settings,
            label=f"RabbitMQ ({self._url.queue})",
            prefetch=settings.threads * settings.batch_size,
        )
        self._closing.callback(queue.close)
        self.queue = queue
        self.in_flight = InFlightTracker(queue, settings.lease_seconds)

    def close(self) -> None:
        """Close the connection: what is not settled is ready again at once."""
        self._closing.close()
