"""What happens to an order message: validate -> record in the ledger -> write to Redis.

The ledger counts; Redis gets the ledger's totals and never adds anything itself. A message that was
counted before takes the same steps: its first delivery may have ended between the two writes.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from product_consumer.errors import ConfigurationError, FatalError, Unavailable, is_refusal
from product_consumer.models import Message
from product_consumer.orders.ledger import OrderBatchRecord, OrderLedger
from product_consumer.orders.models import Order, RejectedOrder
from product_consumer.orders.parser import OrderParser, readable_order_id
from product_consumer.orders.redis.stats import RedisStats
from product_consumer.orders.redis.writer import RedisWriter
from product_consumer.outcomes import Outcome, Rejected, Released, Stored
from product_consumer.pipeline.batch import Batch
from product_consumer.pipeline.circuit_breaker import Breakers
from product_consumer.pipeline.context import ProcessContext
from product_consumer.queues.in_flight import InFlightTracker

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class OrderMessage:
    """An order message on its way through the pipeline. For one thread at a time."""

    message: Message
    outcome: Outcome | None = None
    order: Order = field(init=False, repr=False)
    """The order of the body; set when the message is validated."""


Items = list[OrderMessage]
OrderBatch = Batch[OrderMessage]


class OrderPipeline:
    """The steps of an order message: validate, record, write to Redis. Any thread may call it.

    ``stats`` is None where no Redis is configured. ``on_counted`` is called with every order when
    it is first counted; it must neither block nor raise.
    """

    def __init__(
        self,
        parser: OrderParser,
        ledger: OrderLedger,
        stats: RedisStats | None,
        in_flight: InFlightTracker,
        context: ProcessContext,
        *,
        max_attempts: int,
        on_counted: Callable[[Order], None] = lambda _order: None,
    ) -> None:
        self._parser = parser
        self._in_flight = in_flight
        self._context = context
        self._max_attempts = max_attempts
        self._on_counted = on_counted
        probes = {"ledger": ledger.probe} | ({"redis": stats.probe} if stats else {})
        self._breakers = Breakers(probes, context)
        guarded = partial(self._breakers.guarded, "ledger")
        self._record = guarded("record", partial(_record, ledger))
        self._add_rejected = guarded("list rejected", ledger.add_rejected)
        self._redis = RedisWriter(ledger, stats, self._breakers) if stats else None

    def process(self, messages: Sequence[Message]) -> list[Outcome]:
        """Return one outcome per message, in order; raises ``FatalError`` only."""
        items = map(OrderMessage, messages)
        with Batch(items, self._context, max_attempts=self._max_attempts) as batch:
            valid = self.validate(batch)
            recorded = self.record(batch, valid)
            self.write(batch, recorded)
        self._list_rejected(batch)
        return batch.outcomes()

    def wait_until_ready(self) -> bool:
        """Block while the ledger or Redis is down, and fill a Redis that may have lost data.

        Returns False when asked to stop.
        """
        while self._breakers.wait_until_closed():
            try:
                if self._redis is None or self._redis.keep_filled():
                    return True
            except (Unavailable, ConfigurationError) as error:
                log.warning("Redis could not be filled, trying again: %s", error)
        return False

    def validate(self, batch: OrderBatch) -> Items:
        """Turn message bodies into orders."""
        with batch.stage("validate_order"):
            return batch.each("validate", batch.items, self._parse)

    def record(self, batch: OrderBatch, valid: Items) -> Items:
        """Count the new orders; return all that the ledger has now, counted now or before."""
        held = batch.release_lost(valid, self._in_flight.is_held)
        orders = [item.order for item in held]
        with batch.stage("order_ledger"):
            recorded = self._record(orders)
            batch.fail("ledger", held, recorded.failures)
        known = batch.undecided(held)
        repeated = len(known) - len(recorded.inserted)
        self._context.metrics.count_flags(("order_repeated",) * repeated)
        # Of copies in one batch the ledger counted the first, which stays because of the reversal.
        new = [order for order in reversed(orders) if order.order_id in recorded.inserted]
        for order in {order.order_id: order for order in new}.values():
            self._on_counted(order)
        return known

    def write(self, batch: OrderBatch, recorded: Items) -> None:
        """Write the current totals of all users of the batch; then its messages are stored."""
        if self._redis is not None and recorded:
            with batch.stage("redis"):
                self._redis.write({item.order.user_id for item in recorded})
        for item in recorded:
            item.outcome = Stored(item.order.order_id)

    def _parse(self, item: OrderMessage) -> None:
        item.order = self._parser.parse(item.message)
        self._context.metrics.count_flags(item.order.flags)

    def _list_rejected(self, batch: OrderBatch) -> None:
        """Add rejected messages to the service's list before the queue lets go of them."""
        now = datetime.now(UTC)
        rejected = [item for item in batch.items if isinstance(item.outcome, Rejected)]
        entries = [
            _entry(item.message, item.outcome, now)
            for item in rejected
            if isinstance(item.outcome, Rejected)
        ]
        if not entries:
            return
        try:
            self._add_rejected(entries)
        except (Unavailable, ConfigurationError) as error:
            for item in rejected:
                item.outcome = Released(str(error))
        except FatalError:
            raise
        except Exception:
            # The dead-letter queue gets the same reasons; its copies must not wait for this list.
            log.exception("Rejected orders could not be listed")


def _record(ledger: OrderLedger, orders: Sequence[Order]) -> OrderBatchRecord:
    """Record orders; an order is refused for its own data only while a good one is taken."""
    recorded = ledger.record(orders)
    if any(is_refusal(error) for error in recorded.failures.values()):
        ledger.probe()
    return recorded


def _entry(message: Message, outcome: Rejected, now: datetime) -> RejectedOrder:
    order_id = readable_order_id(message)
    return RejectedOrder(message.message_id, order_id, outcome.reason, outcome.detail, now)
