"""Keeps received messages hidden for as long as they are worked on."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition, Event, Thread

from product_consumer.errors import QueueUnavailable
from product_consumer.models import Message
from product_consumer.queues.base import MessageQueue

log = logging.getLogger(__name__)

MAX_HOLD_SECONDS = 4500.0
"""Longer than a consumer waits for a dependency that is down (``pipeline/hold.py``), so that only a
thread that is stuck reaches it."""
_BATCH_SIZE = 10
"""Messages extended at a time, so that settling a message waits for one such call at most."""
_MAX_TICK_SECONDS = 3.0
_MAX_CALL_WAIT_SECONDS = 1.0
_STOP_SECONDS = 5.0


@dataclass(slots=True, eq=False)
class _Held:
    message: Message
    tracked_at: float
    extend_at: float
    lost: bool = False
    given_up: bool = False


class InFlightTracker:
    """The messages in flight, and a thread that extends their visibility timeout at each third.

    Every method may be called from any thread. A message is extended until ``stop_extending``, for
    ``max_hold_seconds`` at most: a stuck message must reach another consumer some day. Start the
    tracker before the first receive and stop it after the last message is settled: messages that
    wait while the process drains are extended too.
    """

    def __init__(
        self,
        queue: MessageQueue,
        visibility_timeout_seconds: int,
        max_hold_seconds: float = MAX_HOLD_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue = queue
        self._visibility_timeout_seconds = visibility_timeout_seconds
        self._interval_seconds = visibility_timeout_seconds / 3
        # Four checks per interval: a message is extended well before half of its time has gone.
        self._tick_seconds = min(_MAX_TICK_SECONDS, self._interval_seconds / 4)
        self._max_hold_seconds = max_hold_seconds
        self._clock = clock
        self._held: dict[str, _Held] = {}
        self._extending: frozenset[str] = frozenset()
        self._changed = Condition()
        self._failing_since: float | None = None
        self._stopping = Event()
        self._thread: Thread | None = None
        self._on_step: Callable[[], None] = lambda: None

    def start(self, on_step: Callable[[], None] | None = None) -> None:
        """Start the thread, which calls ``on_step`` at every tick and every batch; called once."""
        self._on_step = on_step or self._on_step
        self._thread = Thread(target=self._run, name="in-flight-tracker", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop extending; returns within seconds, even while the queue does not answer."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)

    @contextmanager
    def track(self, messages: Sequence[Message]) -> Iterator[None]:
        """Extend messages that were just received, until ``stop_extending`` or the block's end."""
        now = self._clock()
        with self._changed:
            for message in messages:
                held = _Held(message, tracked_at=now, extend_at=now + self._interval_seconds)
                self._held[message.receipt_handle] = held
        try:
            yield
        finally:
            for message in messages:
                self.stop_extending(message)

    def stop_extending(self, message: Message) -> None:
        """Stop extending a message; called just before it is settled.

        No call that extends it is under way when this returns, unless the queue takes over a second
        to respond. So no such call can hide the message again after it was released.
        """
        receipt = message.receipt_handle
        with self._changed:
            if self._held.pop(receipt, None) is not None:
                self._changed.wait_for(
                    lambda: receipt not in self._extending, _MAX_CALL_WAIT_SECONDS
                )

    def is_held(self, message: Message) -> bool:
        """Tell whether this delivery is tracked and, as far as is known, its receipt still valid.

        An invalid receipt means that the message was delivered again. The work on this delivery
        should end before its next write.
        """
        with self._changed:
            held = self._held.get(message.receipt_handle)
            return held is not None and not held.lost

    def held(self) -> list[Message]:
        """Return the messages that are tracked now."""
        with self._changed:
            return [held.message for held in self._held.values()]

    @property
    def count(self) -> int:
        """Messages that are tracked now."""
        with self._changed:
            return len(self._held)

    def extend_due(self) -> None:
        """Extend the messages that are due; the thread calls this at every tick."""
        due = self._due()
        for start in range(0, len(due), _BATCH_SIZE):
            batch = due[start : start + _BATCH_SIZE]
            self._on_step()
            try:
                self._extend(batch)
            except QueueUnavailable as error:
                # The rest stays due: the next tick, seconds away, tries again.
                self._report_failure(error)
                return
        if due:
            self._report_success()

    def _run(self) -> None:
        while not self._stopping.wait(self._tick_seconds):
            self._on_step()
            try:
                self.extend_due()
            except Exception:
                # Without this thread every slow message would be delivered twice.
                log.exception("Extending visibility timeouts failed; trying again")

    def _due(self) -> list[_Held]:
        """Return what must be extended now, the earliest due first."""
        now = self._clock()
        with self._changed:
            for held in self._held.values():
                self._give_up_if_stuck(held, now)
            due = [held for held in self._held.values() if held.extend_at <= now]
            active = [held for held in due if not held.lost and not held.given_up]
        return sorted(active, key=lambda held: held.extend_at)

    def _give_up_if_stuck(self, held: _Held, now: float) -> None:
        if held.given_up or held.lost or now - held.tracked_at < self._max_hold_seconds:
            return
        held.given_up = True
        log.warning(
            "Message %s has been worked on for %.0f s; no longer keeping it hidden",
            held.message.message_id,
            now - held.tracked_at,
        )

    def _extend(self, batch: list[_Held]) -> None:
        with self._changed:
            batch = [held for held in batch if held.message.receipt_handle in self._held]
            self._extending = frozenset(held.message.receipt_handle for held in batch)
        extended_at = self._clock()
        try:
            messages = [held.message for held in batch]
            lost = (
                self._queue.extend(messages, self._visibility_timeout_seconds) if messages else []
            )
        finally:
            with self._changed:
                self._extending = frozenset()
                self._changed.notify_all()
        for held in batch:
            held.extend_at = extended_at + self._interval_seconds
        self._set_lost(lost)

    def _set_lost(self, messages: list[Message]) -> None:
        lost: list[str] = []
        with self._changed:
            for message in messages:
                held = self._held.get(message.receipt_handle)
                if held is not None:
                    held.lost = True
                    lost.append(message.message_id)
        if lost:
            log.warning("Delivered again before they were settled: messages %s", ", ".join(lost))

    def _report_failure(self, error: QueueUnavailable) -> None:
        if self._failing_since is None:
            self._failing_since = self._clock()
            log.warning("Cannot extend visibility timeouts: %s; trying again", error)

    def _report_success(self) -> None:
        if self._failing_since is not None:
            log.info(
                "Visibility timeouts extended again after %.0f s",
                self._clock() - self._failing_since,
            )
            self._failing_since = None
