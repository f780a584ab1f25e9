"""Finds the message that kills its process: an image may crash a decoder or the device.

The messages of a batch are recorded as in progress before they are decoded and embedded. A message
that a process left in progress when it ended is a crash suspect. From then on it is worked on
alone, so that it harms no other message. After ``MAX_CRASHES_ALONE`` crashes it is rejected
(``product_consumer/ledger/in_progress.py``).
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from product_consumer.errors import FatalError, ModelBroken
from product_consumer.ledger.in_progress import CrashSuspect
from product_consumer.pipeline.batch import Batch
from product_consumer.products.item import ProductItem
from product_consumer.products.shared_stores import SharedLedger

Items = list[ProductItem]
Step = Callable[..., Items]
"""Called with a batch and its items, and with ``alone=True`` for a crash suspect."""


class CrashGuard:
    """Guard of the steps that may crash the process; one for all its threads. Thread-safe.

    Raises what the ledger and the step raise.
    """

    def __init__(self, ledger: SharedLedger) -> None:
        self._ledger = ledger
        self._one_suspect = threading.Lock()
        self._unfinished: set[str] = set()
        """Messages that the process survived, and that the ledger has not heard of."""
        self._lock = threading.Lock()

    def run(self, batch: Batch[ProductItem], items: Items, step: Step) -> Items:
        """Run ``step`` on each crash suspect alone, and on all other items together.

        Returns the items that go on.
        """
        if self._unfinished:
            self._finish([])
        suspects = self._ledger.start([item.message.message_id for item in items])
        together = [item for item in items if item.message.message_id not in suspects]
        with self._finishing(together):
            going_on = step(batch, together)
        for item in items:
            suspect = suspects.get(item.message.message_id)
            if suspect is not None:
                going_on += self._run_alone(batch, item, suspect, step)
        return going_on

    def _run_alone(
        self, batch: Batch[ProductItem], item: ProductItem, suspect: CrashSuspect, step: Step
    ) -> Items:
        def start(_item: ProductItem) -> None:
            suspect.check()
            self._ledger.start_alone(suspect)

        # One suspect at a time in the whole process: a crash must count for the right suspect.
        with self._one_suspect, self._finishing([item]):
            return step(batch, batch.each("embed", [item], start), alone=True)

    @contextmanager
    def _finishing(self, items: Items) -> Iterator[None]:
        """Finish the items after the block; they stay in progress if one may have been fatal."""
        try:
            yield
        except ModelBroken:
            self._finish(items)
            raise
        except FatalError:
            raise
        except BaseException:
            self._finish(items)
            raise
        self._finish(items)

    def _finish(self, items: Items) -> None:
        ids = {item.message.message_id for item in items}
        with self._lock:
            ids |= self._unfinished
            self._unfinished = set()
        try:
            self._ledger.finish(list(ids))
        except BaseException:
            with self._lock:
                self._unfinished |= ids
            raise
