"""Finds the message that kills its process: an image may crash a decoder or the device.

The messages of a batch are recorded as in progress before they are decoded and embedded. A message
that a process left in progress when it ended is a crash suspect. From then on it is worked on
alone, so that it harms no other message. After ``MAX_CRASHES_ALONE`` crashes it is rejected
(``product_consumer/ledger/in_progress.py``).
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Generic, Protocol

from product_consumer.errors import FatalError, ModelBroken
from product_consumer.ledger.in_progress import CrashSuspect
from product_consumer.models import Message
from product_consumer.pipeline.batch import Batch, Item


class MessagesInProgress(Protocol):
    """The table of messages in progress, as the guard calls it; see ``InProgress``."""

    def start(self, message_ids: Sequence[str]) -> Mapping[str, CrashSuspect]: ...

    def start_alone(self, suspect: CrashSuspect) -> None: ...

    def finish(self, message_ids: Sequence[str]) -> None: ...


def _message_id(message: Message) -> str:
    return message.message_id


class CrashGuard(Generic[Item]):
    """Guard of the steps that may crash the process; one for all its threads. Thread-safe.

    Raises what the table and the step raise. ``name_of``: the name of a message in the table, the
    same at every delivery.
    """

    def __init__(
        self, table: MessagesInProgress, name_of: Callable[[Message], str] = _message_id
    ) -> None:
        self._table = table
        self._name_of = name_of
        self._one_suspect = threading.Lock()
        self._unfinished: set[str] = set()
        """Messages that the process survived, and that the table has not heard of."""
        self._lock = threading.Lock()

    def run(
        self, batch: Batch[Item], items: list[Item], step: Callable[..., list[Item]]
    ) -> list[Item]:
        """Run ``step`` on each crash suspect alone, and on all other items together.

        Returns the items that go on. ``step`` is called with a batch and its items, and with
        ``alone=True`` for a crash suspect.
        """
        if self._unfinished:
            self._finish([])
        names = [self._name_of(item.message) for item in items]
        suspects = self._table.start(names)
        together = [item for item, name in zip(items, names, strict=True) if name not in suspects]
        with self._finishing(together):
            going_on = step(batch, together)
        for item, name in zip(items, names, strict=True):
            suspect = suspects.get(name)
            if suspect is not None:
                going_on += self._run_alone(batch, item, suspect, step)
        return going_on

    def _run_alone(
        self,
        batch: Batch[Item],
        item: Item,
        suspect: CrashSuspect,
        step: Callable[..., list[Item]],
    ) -> list[Item]:
        def start(_item: Item) -> None:
            suspect.check()
            self._table.start_alone(suspect)

        # One suspect at a time in the whole process: a crash must count for the right suspect.
        with self._one_suspect, self._finishing([item]):
            return step(batch, batch.each("embed", [item], start), alone=True)

    @contextmanager
    def _finishing(self, items: list[Item]) -> Iterator[None]:
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

    def _finish(self, items: list[Item]) -> None:
        names = {self._name_of(item.message) for item in items}
        with self._lock:
            names |= self._unfinished
            self._unfinished = set()
        try:
            self._table.finish(list(names))
        except BaseException:
            with self._lock:
                self._unfinished |= names
            raise
