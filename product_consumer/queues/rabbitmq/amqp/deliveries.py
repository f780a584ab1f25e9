"""What one channel has delivered: a buffer, and the messages in hand with their leases.

RabbitMQ takes nothing back while a channel lives. So the client keeps a lease for each message that
was received: one that nobody extends is given back, as SQS would do it.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Condition
from time import monotonic
from uuid import uuid4

from product_consumer.queues.rabbitmq.amqp.client import Properties

MAX_LEASE_SECONDS = 1200.0
"""Longest time in hand, counted from the receive, however often a lease is extended. The server
takes a channel away that holds a message for 30 minutes."""
_MESSAGES_PER_THREAD = 10


@dataclass(slots=True, eq=False)
class Delivery:
    """A message as a channel delivered it."""

    origin: str
    """Of the object that it was delivered to: nobody else can settle it."""
    generation: int
    """Number of the channel; tags are unique within one."""
    tag: int
    body: bytes
    properties: Properties
    is_redelivered: bool
    ends_at: float = 0.0
    received_at: float = 0.0

    @property
    def receipt(self) -> str:
        return f"{self.origin}:{self.generation}:{self.tag}"


class Deliveries:
    """The deliveries of the newest channel. Thread-safe; no method calls the server.

    ``clock``: monotonic seconds.
    """

    def __init__(self, lease_seconds: float, clock: Callable[[], float] = monotonic) -> None:
        self.origin = uuid4().hex[:12]
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._buffer: deque[Delivery] = deque()
        self._held: dict[str, Delivery] = {}
        self._changed = Condition()
        self._waiting_count = 0
        self._is_wake_due = False
        self._asked_at = clock()

    def add(self, delivery: Delivery) -> bool:
        """Put a delivery into the buffer; return whether ``wake`` is still to be called for it.

        One call is enough for all that are added together: threads that are woken for one message
        each would wait for each other.
        """
        self._buffer.append(delivery)
        is_first, self._is_wake_due = not self._is_wake_due, True
        return is_first

    def wake(self) -> None:
        """Wake as many waiting threads as there is work for."""
        self._is_wake_due = False
        with self._changed:
            self._changed.notify(-(-len(self._buffer) // _MESSAGES_PER_THREAD))

    def take(self, limit: int, seconds: float) -> list[Delivery]:
        """Return up to ``limit`` deliveries, in order, as soon as there are any; none in the end.

        Each is leased to the caller.
        """
        ends_at = self._clock() + seconds
        with self._changed:
            self._waiting_count += 1
            try:
                while not self._buffer and (left := ends_at - self._clock()) > 0:
                    self._changed.wait(left)
            finally:
                self._waiting_count -= 1
                self._asked_at = self._clock()
            count = min(limit, len(self._buffer))
            taken = [self._buffer.popleft() for _ in range(count)]
            for delivery in taken:
                delivery.received_at = self._asked_at
                delivery.ends_at = self._asked_at + self._lease_seconds
                self._held[delivery.receipt] = delivery
            return taken

    def settle(self, receipts: Iterable[str]) -> list[Delivery]:
        """Return the deliveries with a valid receipt, which is no longer valid afterwards."""
        with self._changed:
            found = (self._held.pop(receipt, None) for receipt in receipts)
            return [delivery for delivery in found if delivery is not None]

    def is_held(self, receipt: str) -> bool:
        """Return whether a receipt is valid."""
        with self._changed:
            return receipt in self._held

    def extend(self, receipts: Iterable[str], seconds: float) -> set[str]:
        """Let leases end ``seconds`` from now; return the receipts that are not valid."""
        now = self._clock()
        lost: set[str] = set()
        with self._changed:
            for receipt in receipts:
                delivery = self._held.get(receipt)
                if delivery is None:
                    lost.add(receipt)
                else:
                    longest = delivery.received_at + MAX_LEASE_SECONDS
                    delivery.ends_at = min(now + seconds, longest)
        return lost

    def take_overdue(self) -> list[Delivery]:
        """Return the deliveries whose lease has ended, in order; their receipts are not valid."""
        now = self._clock()
        with self._changed:
            overdue = [delivery for delivery in self._held.values() if delivery.ends_at <= now]
            for delivery in overdue:
                del self._held[delivery.receipt]
        return sorted(overdue, key=lambda delivery: delivery.tag)

    def take_buffer(self, idle_seconds: float = 0.0) -> list[Delivery]:
        """Return what nobody has received, in order, if nobody has asked for ``idle_seconds``."""
        with self._changed:
            is_idle = not self._waiting_count and self._idle_seconds() >= idle_seconds
            if not self._buffer or not is_idle:
                return []
            taken = list(self._buffer)
            self._buffer.clear()
            return taken

    def forget(self) -> None:
        """Make every receipt invalid and empty the buffer: the channel is gone."""
        with self._changed:
            self._buffer.clear()
            self._held.clear()

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for a delivery."""
        return self._waiting_count > 0

    @property
    def buffered_count(self) -> int:
        return len(self._buffer)

    @property
    def held_count(self) -> int:
        return len(self._held)

    def _idle_seconds(self) -> float:
        return self._clock() - self._asked_at
