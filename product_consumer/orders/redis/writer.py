"""Writes the ledger's totals to Redis, and fills a Redis that may have lost some of them."""

import logging
import threading
from collections.abc import Collection

from product_consumer.orders.ledger import OrderLedger
from product_consumer.orders.redis.rebuild import rebuild_stats
from product_consumer.orders.redis.stats import RedisStats, StatsHash
from product_consumer.pipeline.circuit_breaker import Breakers

log = logging.getLogger(__name__)

TURN_SECONDS = 1.0
"""How long a thread waits for another one that fills Redis, before it looks for a stop."""


class RedisWriter:
    """Keeps Redis equal to the ledger; any thread may call it.

    ``breakers`` has ``ledger`` and ``redis``. While either is down every method waits, and raises
    what ``Breakers.call`` raises.
    """

    def __init__(self, ledger: OrderLedger, stats: RedisStats, breakers: Breakers) -> None:
        self._ledger = ledger
        self._stats = stats
        self._users_stats = breakers.guarded("ledger", "read", ledger.users_stats)
        self._global_stats = breakers.guarded("ledger", "read", ledger.global_stats)
        self._write = breakers.guarded("redis", "write", stats.write)
        self._is_filled = breakers.guarded("redis", "read", stats.is_filled)
        self._guarded_fill = breakers.guarded("redis", "fill", self._fill)
        self._touch = breakers.touch
        self._filling = threading.Lock()

    def write(self, user_ids: Collection[str]) -> None:
        """Write the current totals of these users and of everyone."""
        written = self._current(user_ids)
        self._write(written)
        # The worker that recorded a newer revision writes it, too; Redis refuses the older one.
        # Written here as well, it survives the death of that worker.
        revisions = {total.key: total.revision for total in written}
        current = self._current(user_ids)
        newer = [total for total in current if total.revision > revisions.get(total.key, 0)]
        if newer:
            self._write(newer)

    def keep_filled(self) -> bool:
        """Write every total again if Redis may lack some: a batch writes its own users only.

        Returns False while another thread does it.
        """
        if self._is_filled():
            return True
        if not self._filling.acquire(timeout=TURN_SECONDS):
            return False
        try:
            if not self._is_filled():
                log.info("Redis is new, emptied or restarted: filling it from the ledger")
                log.info("Redis is filled: %d totals written", self._guarded_fill())
        finally:
            self._filling.release()
        return True

    def _fill(self) -> int:
        filler = self._stats.start_filling()
        written = rebuild_stats(self._ledger, self._stats, lambda _done, _total: self._touch())
        if not self._stats.finish_filling(filler):
            log.warning("Redis lost data while it was filled: the next check fills it again")
        return written

    def _current(self, user_ids: Collection[str]) -> list[StatsHash]:
        totals = self._users_stats(user_ids)
        everyone = self._global_stats()
        return [*map(self._stats.of_user, totals.values()), self._stats.of_everyone(everyone)]
