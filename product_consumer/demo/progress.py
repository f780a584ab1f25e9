"""Progress of the worker: a bar on a terminal, a log line every few seconds anywhere else."""

import logging
import sys
from collections.abc import Iterator
from threading import Event
from time import monotonic

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from product_consumer.demo.feed import Feed

log = logging.getLogger(__name__)

LINE_SECONDS = 5.0
"""Between two log lines."""

_POLL_SECONDS = 0.25


class Progress:
    """Counts settled messages and their time, and prints both on standard error; for one thread."""

    def __init__(self, products: Feed, orders: Feed) -> None:
        self._feeds = (products, orders)
        self._counts = tuple(feed.counts() for feed in self._feeds)
        self._began_at = self._moved_at = monotonic()

    def watch(self, ended: Event) -> None:
        """Print progress until every message is settled, or until ``ended`` is set."""
        if sys.stderr is not None and sys.stderr.isatty():
            self._draw_bar(ended)
        else:
            self._log_lines(ended)

    @property
    def total(self) -> int:
        """Messages that will be sent."""
        return sum(counts.total for counts in self._counts)

    @property
    def done(self) -> int:
        """Messages that were settled when last counted."""
        return sum(counts.done for counts in self._counts)

    @property
    def seconds(self) -> float:
        """From the first receive to the last settled message, to a quarter of a second; never 0."""
        return max(_POLL_SECONDS, self._moved_at - self._began_at)

    def in_words(self) -> str:
        """``40 of 99 product messages and 12 of 40 orders``."""
        products, orders = self._counts
        return (
            f"{products.done} of {products.total} product messages "
            f"and {orders.done} of {orders.total} orders"
        )

    def count(self) -> int:
        """Ask both queues; return ``done``."""
        done_before = self.done
        self._counts = tuple(feed.counts() for feed in self._feeds)
        if self.done != done_before:
            self._moved_at = monotonic()
        if not any(counts.in_flight or counts.done for counts in self._counts):
            self._began_at = monotonic()
        return self.done

    def _each_count(self, ended: Event) -> Iterator[int]:
        is_over = False
        while not is_over:
            is_over = ended.wait(_POLL_SECONDS)
            done = self.count()
            yield done
            is_over = is_over or done >= self.total

    def _draw_bar(self, ended: Event) -> None:
        bar = tqdm(total=self.total, unit="msg", desc="Consuming", file=sys.stderr)
        with logging_redirect_tqdm(), bar:
            for done in self._each_count(ended):
                bar.update(done - bar.n)

    def _log_lines(self, ended: Event) -> None:
        logged, logged_at = 0, monotonic()
        for done in self._each_count(ended):
            is_news = logged != done < self.total
            if is_news and monotonic() - logged_at >= LINE_SECONDS:
                logged, logged_at = done, monotonic()
                log.info("Handled %s", self.in_words())
        log.info("Handled %s", self.in_words())
