"""What happens to an order message: validate -> record in the ledger -> show in Redis.

The ledger counts; Redis is given what the ledger says and never adds anything itself. A message
that was counted before walks the same way, because its first delivery may have ended between the
two.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from product_consumer.errors import ConfigurationError, FatalError, Unavailable
from product_consumer.metrics import Metrics
from product_consumer.models import Message
from product_consumer.orders.ledger import OrderLedger
from product_consumer.orders.models import Order, RejectedOrder
from product_consumer.orders.parser import OrderParser, readable_order_id
from product_consumer.orders.redis_rebuild import rebuild_stats
from product_consumer.orders.redis_stats import RedisStats, ShownHash
from product_consumer.outcomes import Outcome, Rejected, Released, Stored
from product_consumer.pipeline.circuit_breaker import Breakers
from product_consumer.pipeline.error_policy import decide
from product_consumer.queues.in_flight import InFlightTracker

log = logging.getLogger(__name__)


@dataclass(slots=True)
class OrderWork:
    """One message on its way; ``outcome`` is set once, by whoever settles its fate."""

    message: Message
    outcome: Outcome | None = None
    order: Order | None = None


class OrderPipeline:
    """Thread-safe. ``stats`` is None where no Redis is configured. ``on_counted`` is told every
    order that was counted for the first time; it must neither block nor raise.
    """

    def __init__(
        self,
        parser: OrderParser,
        ledger: OrderLedger,
        stats: RedisStats | None,
        in_flight: InFlightTracker,
        metrics: Metrics,
        stopping: threading.Event,
        *,
        max_attempts: int,
        on_counted: Callable[[Order], None] | None = None,
    ) -> None:
        self._parser = parser
        self._ledger = ledger
        self._stats = stats
        self._in_flight = in_flight
        self._metrics = metrics
        self._max_attempts = max_attempts
        self._on_counted = on_counted
        self._filling = threading.Lock()
        probes = {"ledger": ledger.ping} | ({"redis": stats.ping} if stats else {})
        self.breakers = Breakers(probes, stopping, metrics)

    def process(self, messages: Sequence[Message]) -> list[Outcome]:
        """Return one outcome per message, in order; raises ``FatalError`` only."""
        batch = [OrderWork(message) for message in messages]
        try:
            recorded = self.record(self.validate(batch))
            self.show(recorded)
        except FatalError:
            raise
        except Exception as error:
            self._settle_all(batch, "pipeline", error)
        self._note_rejected(batch)
        return [work.outcome or Released("left unfinished") for work in batch]

    def wait_until_ready(self) -> bool:
        """Block while the ledger or Redis is down, and fill a Redis that may have lost data; False
        when asked to stop.
        """
        while self.breakers.wait_until_closed():
            try:
                self._keep_filled()
            except (Unavailable, ConfigurationError) as error:
                log.warning("Redis could not be filled, trying again: %s", error)
            else:
                return True
        return False

    def validate(self, batch: Sequence[OrderWork]) -> list[OrderWork]:
        """Turn bodies into orders."""
        with self._metrics.stage("validate_order"):
            for work in batch:
                with self._settling(work, "validate"):
                    work.order = self._parser.parse(work.message)
                    self._metrics.count_flags(work.order.flags)
        return _unsettled(batch)

    def record(self, valid: Sequence[OrderWork]) -> list[OrderWork]:
        """Count what is new; return what is in the ledger now, counted by this batch or before."""
        for work in valid:
            if not self._in_flight.is_held(work.message):
                work.outcome = Released("delivered again elsewhere")
        held = _unsettled(valid)
        orders = [_order(work) for work in held]
        with self._metrics.stage("order_ledger"):
            recorded = self.breakers.call("ledger", lambda: self._ledger.record(orders))
        for position, error in recorded.failures.items():
            self._settle(held[position], "ledger", error)
        known = _unsettled(held)
        repeated = len(known) - len(recorded.inserted)
        self._metrics.count_flags(("order_repeated",) * repeated)
        self._announce([order for order in orders if order.order_id in recorded.inserted])
        return known

    def show(self, recorded: Sequence[OrderWork]) -> None:
        """Write the current totals of everyone in the batch; then the messages are done."""
        if self._stats is not None and recorded:
            users = {_order(work).user_id for work in recorded}
            with self._metrics.stage("redis"):
                self._show_totals(self._stats, users)
        for work in recorded:
            work.outcome = Stored(_order(work).order_id)

    def _announce(self, counted: Sequence[Order]) -> None:
        if self._on_counted is not None:
            # Of copies in one batch the first was counted.
            for order in {order.order_id: order for order in reversed(counted)}.values():
                self._on_counted(order)

    def _keep_filled(self) -> None:
        """Show everything once more when Redis may lack some: a batch shows only its own users."""
        stats = self._stats
        if stats is None or self.breakers.call("redis", stats.is_filled):
            return
        with self._filling:
            if self.breakers.call("redis", stats.is_filled):
                return
            log.info("Redis is new, emptied or restarted: filling it from the ledger")
            written = self.breakers.call("redis", lambda: self._fill(stats))
            log.info("Redis is filled: %d totals written", written)

    def _fill(self, stats: RedisStats) -> int:
        filler = stats.begin_filling()
        written = rebuild_stats(self._ledger, stats, lambda _done, _total: None)
        if not stats.mark_filled(filler):
            log.warning("Redis lost data while it was filled: the next look fills it again")
        return written

    def _show_totals(self, stats: RedisStats, users: set[str]) -> None:
        written = self._current(stats, users)
        self.breakers.call("redis", lambda: stats.show(written))
        # Redis refuses older revisions, so what is newer now is also written by whoever recorded
        # it. Writing it here too covers a worker that died before it could.
        before = {shown.key: shown.revision for shown in written}
        newer = [
            one for one in self._current(stats, users) if one.revision > before.get(one.key, 0)
        ]
        if newer:
            self.breakers.call("redis", lambda: stats.show(newer))

    def _current(self, stats: RedisStats, users: set[str]) -> list[ShownHash]:
        totals = self.breakers.call("ledger", lambda: self._ledger.users_stats(users))
        everyone = self.breakers.call("ledger", self._ledger.global_stats)
        return [*map(stats.of_user, totals.values()), stats.of_everyone(everyone)]

    def _note_rejected(self, batch: Sequence[OrderWork]) -> None:
        """Keep what is rejected where the service can list it, before the queue lets it go."""
        rejected = [work for work in batch if isinstance(work.outcome, Rejected)]
        if not rejected:
            return
        entries = [_entry(work.message, work.outcome) for work in rejected]
        try:
            self.breakers.call("ledger", lambda: self._ledger.note_rejected(entries))
        except (Unavailable, ConfigurationError) as error:
            for work in rejected:
                work.outcome = Released(str(error))
        except FatalError:
            raise
        except Exception:
            # The copy in the dead-letter queue says the same; it must not wait for this list.
            log.exception("Rejected orders could not be listed")

    def _settle(self, work: OrderWork, stage: str, error: Exception) -> None:
        work.outcome = decide(work.message, stage, error, max_attempts=self._max_attempts)

    def _settle_all(self, batch: Iterable[OrderWork], stage: str, error: Exception) -> None:
        for work in _unsettled(batch):
            self._settle(work, stage, error)

    @contextmanager
    def _settling(self, work: OrderWork, stage: str) -> Iterator[None]:
        """An error inside settles this one message and spares its neighbours."""
        try:
            yield
        except FatalError:
            raise
        except Exception as error:
            self._settle(work, stage, error)


def _unsettled(batch: Iterable[OrderWork]) -> list[OrderWork]:
    return [work for work in batch if work.outcome is None]


def _order(work: OrderWork) -> Order:
    if work.order is None:
        raise TypeError("a step was given work that has not been validated")
    return work.order


def _entry(message: Message, outcome: Outcome | None) -> RejectedOrder:
    if not isinstance(outcome, Rejected):
        raise TypeError("only rejected messages are listed")
    return RejectedOrder(
        message.message_id,
        readable_order_id(message),
        outcome.reason,
        outcome.detail,
        datetime.now(UTC),
    )
