"""The components of the order stream, built from settings and closed in reverse order."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from product_consumer.database.connection import Database, open_database
from product_consumer.orders.ledger import OrderLedger
from product_consumer.orders.models import Order
from product_consumer.orders.parser import OrderParser
from product_consumer.orders.pipeline import OrderPipeline
from product_consumer.orders.redis.stats import RedisStats, open_redis_stats
from product_consumer.pipeline.context import ProcessContext, new_context
from product_consumer.queue_addresses import StreamName
from product_consumer.queues.base import MessageQueue
from product_consumer.queues.in_flight import InFlightTracker
from product_consumer.queues.opening import open_queue
from product_consumer.settings import Settings


class OrderComponents:
    """The queue, ledger, Redis and parser of the order stream. One thread opens and closes it.

    Call the ``open_`` methods in their order here; each may raise ``Unavailable`` and be called
    again, or ``ConfigurationError``. An attribute exists once its ``open_`` method has returned.
    """

    queue: MessageQueue
    in_flight: InFlightTracker
    ledger: OrderLedger
    stats: RedisStats | None

    def __init__(
        self,
        settings: Settings,
        context: ProcessContext | None = None,
        database: Database | None = None,
    ) -> None:
        """``database``: a shared one, which its owner closes."""
        self._settings = settings
        self._context = context or new_context()
        self._database = database
        self._closing = ExitStack()
        self.parser = OrderParser(
            default_currency=settings.default_currency, source_timezone=settings.source_timezone
        )

    def opening_steps(self) -> Sequence[Callable[[], object]]:
        """Return what a worker calls, in order."""
        return self.open_queue, self.open_ledger, self.open_stats

    def open_queue(self) -> None:
        """Connect to the queue and check that messages may be received and settled."""
        self.queue = open_queue(self._settings, StreamName.ORDERS)
        self._closing.callback(self.queue.close)
        self.in_flight = InFlightTracker(self.queue, self._settings.lease_seconds)

    def open_ledger(self) -> None:
        """Create or check the tables."""
        ledger = OrderLedger(self._database or open_database(self._settings))
        try:
            ledger.setup()
            ledger.probe()
        except BaseException:
            self._close_ledger(ledger)
            raise
        self.ledger = ledger
        self._closing.callback(self._close_ledger, ledger)

    def open_stats(self) -> None:
        """Connect to Redis, where one is configured."""
        stats = open_redis_stats(self._settings)
        if stats is not None:
            try:
                stats.probe()
            except BaseException:
                stats.close()
                raise
            self._closing.callback(stats.close)
        self.stats = stats

    def pipeline(self, on_counted: Callable[[Order], None] = lambda _order: None) -> OrderPipeline:
        """Return the pipeline of order messages; everything must be open."""
        return OrderPipeline(
            self.parser,
            self.ledger,
            self.stats,
            self.in_flight,
            self._context,
            max_attempts=self._settings.max_attempts,
            on_counted=on_counted,
        )

    def close(self) -> None:
        """Close everything that was opened, last opened first."""
        self._closing.close()

    def _close_ledger(self, ledger: OrderLedger) -> None:
        if self._database is None:
            ledger.close()
