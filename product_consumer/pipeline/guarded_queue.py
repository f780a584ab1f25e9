"""A queue as the consumer threads of a stream use it: it waits while the queue refuses a call."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Protocol

from product_consumer.errors import ConfigurationError, QueueUnavailable, Unavailable
from product_consumer.models import Message
from product_consumer.outcomes import Ignored, Outcome, Rejected, Released, RetryLater, Stored
from product_consumer.pipeline.circuit_breaker import Breakers
from product_consumer.pipeline.context import ProcessContext

log = logging.getLogger(__name__)

Settled = list[tuple[Message, Outcome]]


class Queue(Protocol):
    """The methods of ``MessageQueue`` that are needed here."""

    @property
    def label(self) -> str: ...

    @property
    def max_hold_seconds(self) -> float: ...

    def receive(self, max_messages: int, wait_seconds: int) -> list[Message]: ...

    def acknowledge(self, messages: Sequence[Message]) -> None: ...

    def retry_later(self, message: Message, delay_seconds: float) -> None: ...

    def copy_rejected(self, message: Message, rejected: Rejected) -> None: ...

    def release(self, messages: Sequence[Message]) -> None: ...

    def probe(self) -> None: ...


class Tracker(Protocol):
    """The methods of ``InFlightTracker`` that are needed here."""

    def track(self, messages: Sequence[Message]) -> AbstractContextManager[None]: ...

    def stop_extending(self, message: Message) -> None: ...


class GuardedQueue:
    """A queue behind a breaker, with the settling of messages by their outcomes. Thread-safe.

    While the queue refuses to delete messages, they stay in hand, and nothing is received. While
    copies of rejected messages are refused, those messages stay in hand, and the other threads go
    on. One object for all threads of a stream: they share the breakers.
    """

    def __init__(self, queue: Queue, in_flight: Tracker, context: ProcessContext) -> None:
        self.label = queue.label
        self._queue = queue
        self._in_flight = in_flight
        self._hold = context.hold
        self._touch = context.stages.touch
        self._dead_letters = f"{queue.label} dead-letter queue"
        # Only a copy shows that copies are taken again, and a thread has one in hand.
        probes = {queue.label: queue.probe, self._dead_letters: lambda: None}
        self._breakers = Breakers(probes, context)

    def receive(self, max_messages: int, wait_seconds: int) -> list[Message]:
        """Return received messages, once the queue gives any; none on a stop."""
        action = partial(self._queue.receive, max_messages, wait_seconds)
        try:
            return self._breakers.call(self.label, "receive", action)
        except (Unavailable, ConfigurationError) as error:
            log.debug("%s gave no messages: %s", self.label, error)
            return []

    @contextmanager
    def holding(self, messages: Sequence[Message]) -> Iterator[None]:
        """Keep received messages hidden during the block, in which they are settled."""
        with self._in_flight.track(messages), self._hold.messages(self._queue.max_hold_seconds):
            yield

    def settle(self, messages: Sequence[Message], outcomes: Sequence[Outcome]) -> Settled:
        """Bring each message to its one end; return those that the queue has confirmed.

        The others come back by themselves.
        """
        pairs = list(zip(messages, outcomes, strict=True))
        return [
            *self.give_back(_of_kind(pairs, Released | RetryLater)),
            *self._acknowledge(_of_kind(pairs, Stored | Ignored)),
            *self._reject(_of_kind(pairs, Rejected)),
        ]

    def give_back(self, pairs: Settled) -> Settled:
        """Make messages visible again, at once or after their delay.

        It is tried once: a message that the queue does not let go of becomes visible by itself.
        """
        done: Settled = []
        for message, _ in pairs:
            # An extension that lands after the release would hide the message again.
            self._in_flight.stop_extending(message)
        released = _of_kind(pairs, Released)
        try:
            if released:
                self._touch()
                self._queue.release([message for message, _ in released])
                done += released
            for message, outcome in pairs:
                if isinstance(outcome, RetryLater):
                    self._touch()
                    self._queue.retry_later(message, outcome.delay_seconds)
                    done.append((message, outcome))
        except QueueUnavailable as error:
            missing = len(pairs) - len(done)
            log.warning("%d messages not given back, they will come back: %s", missing, error)
        return done

    def _acknowledge(self, pairs: Settled) -> Settled:
        messages = [message for message, _ in pairs]
        action = partial(self._queue.acknowledge, messages)
        if not messages or not self._waiting(self.label, "acknowledge", action):
            return []
        for message in messages:
            self._in_flight.stop_extending(message)
        return pairs

    def _reject(self, pairs: Settled) -> Settled:
        copied: Settled = []
        for message, outcome in pairs:
            if isinstance(outcome, Rejected):
                copy = partial(self._queue.copy_rejected, message, outcome)
                if self._waiting(self._dead_letters, "copy", copy):
                    copied.append((message, outcome))
        return self._acknowledge(copied)

    def _waiting(self, dependency: str, operation: str, settle: Callable[[], None]) -> bool:
        """Settle as soon as the queue takes it; return whether it did before the hold ended."""
        try:
            self._breakers.call(dependency, operation, settle)
        except (Unavailable, ConfigurationError) as error:
            log.warning("Messages not settled, they will come back: %s", error)
            return False
        return True


def _of_kind(pairs: Settled, kinds: Any) -> Settled:
    return [(message, outcome) for message, outcome in pairs if isinstance(outcome, kinds)]
