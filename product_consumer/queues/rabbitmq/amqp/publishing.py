"""The channel that publishes, on a connection of its own: an alarm blocks such a connection whole.

A publication counts once the server has confirmed it. One that no queue took comes back before its
confirmation.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from threading import Condition
from typing import Any

from product_consumer.queues.rabbitmq.amqp.client import UNWRITABLE, Channel, Properties
from product_consumer.queues.rabbitmq.amqp.connection import IoThread, Link
from product_consumer.queues.rabbitmq.url import Node

WINDOW = 1000
"""Most publications of one call that are not confirmed yet."""
MAX_OPEN_BYTES = 64 * 1024 * 1024
"""About the size of all bodies that are not confirmed yet."""
CONFIRMATION_SECONDS = 10.0
NO_ROUTE = "NoRoute"
"""Error code of a publication to a queue that does not exist."""
REFUSED = "Refused"
"""Error code of a publication that the server did not take, such as one to a full queue."""
UNSENDABLE = "Unsendable"
"""Error code of a publication that cannot be written as AMQP."""

_CHUNK = 100
_MAX_CHUNK_BYTES = 4 * 1024 * 1024


# Not frozen: there is one for each message, and a frozen one takes four times as long to make.
@dataclass(slots=True, eq=False)
class Publication:
    """A message to publish by the default exchange."""

    queue: str
    body: bytes
    properties: Properties


def nowhere(queue: str) -> Publication:
    """Return a publication that no queue takes, to learn whether one may be sent."""
    return Publication(f"{queue}-no-such-queue", b"", Properties())


class NotConfirmed(ConnectionError):
    """The server did not confirm in time, or cannot be asked to."""


class _Results:
    """What became of the publications of one call; the caller waits, the I/O thread reports."""

    def __init__(self) -> None:
        self.codes: dict[int, str] = {}
        self._open_count = 0
        self._error: BaseException | None = None
        self._changed = Condition()

    def expect(self, count: int) -> None:
        with self._changed:
            self._open_count += count

    def done(self, codes: Mapping[int, str]) -> None:
        """Take the codes by position, empty for what was taken."""
        failed = {position: code for position, code in codes.items() if code}
        with self._changed:
            self._open_count -= len(codes)
            self.codes |= failed
            self._changed.notify()

    def fail(self, error: BaseException) -> None:
        with self._changed:
            self._error = self._error or error
            self._changed.notify()

    def wait_until_open(self, most: int) -> None:
        """Wait until at most ``most`` are open; raises when none is confirmed for too long."""
        with self._changed:
            while self._open_count > most and self._error is None:
                before = self._open_count
                if not self._changed.wait(CONFIRMATION_SECONDS) and self._open_count == before:
                    raise NotConfirmed(f"no confirmation within {CONFIRMATION_SECONDS:.0f} s")
            if self._error is not None:
                raise NotConfirmed(self._error) from self._error


_Open = tuple[int, Publication, _Results]
"""A publication that is not confirmed yet: its position in a call, and the results of the call."""


class Publisher:
    """Publishes with confirmations. ``publish`` and ``wait_until_ready`` are for any thread."""

    def __init__(self, io: IoThread, nodes: tuple[Node, ...], name: str) -> None:
        self._io = io
        self.link = Link(io, nodes, name, self._connected, self._lose)
        self.link.on_blocked = self._blocked
        self._channel: Channel | None = None
        self._is_blocked = False
        self._is_ready = False
        self._problem: BaseException | None = None
        self._failures = 0
        self._changed = Condition()
        self._generation = 0
        self._next_tag = 1
        self._open: dict[int, _Open] = {}
        self._returned_tags: set[int] = set()
        io.post(self.link.open)

    def wait_until_ready(self, seconds: float, tries: int = 1) -> BaseException | None:
        """Wait until publishing is possible, or for ``tries`` failures; return why it is not."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_ready or self._failures >= tries, seconds)
            if self._is_ready:
                return None
            return self._problem or TimeoutError("no answer in time")

    def publish(self, publications: Iterable[Publication]) -> dict[int, str]:
        """Publish any number, ``WINDOW`` at a time; return error codes by position.

        Raises ``NotConfirmed``: some may have been taken then.
        """
        results = _Results()
        chunk: list[tuple[int, Publication]] = []
        chunk_bytes = 0
        for position, publication in enumerate(publications):
            chunk.append((position, publication))
            chunk_bytes += len(publication.body)
            if len(chunk) == _CHUNK or chunk_bytes >= _MAX_CHUNK_BYTES:
                self._hand_over(chunk, results)
                chunk, chunk_bytes = [], 0
        self._hand_over(chunk, results)
        results.wait_until_open(0)
        return results.codes

    def _hand_over(self, chunk: list[tuple[int, Publication]], results: _Results) -> None:
        if chunk:
            largest_bytes = max(len(publication.body) for _, publication in chunk)
            window = min(WINDOW, MAX_OPEN_BYTES // max(largest_bytes, 1))
            results.wait_until_open(max(0, window - len(chunk)))
            results.expect(len(chunk))
            self._io.post(lambda: self._send(chunk, results))

    def _send(self, chunk: list[tuple[int, Publication]], results: _Results) -> None:
        channel = self._channel
        if not self._is_ready or self._is_blocked or channel is None or not channel.is_open:
            blocked = NotConfirmed("the server takes nothing: an alarm of memory or disk")
            not_connected = self._problem or NotConfirmed("not connected")
            results.fail(blocked if self._is_blocked else not_connected)
            return
        for position, publication in chunk:
            try:
                channel.basic_publish(
                    "",
                    publication.queue,
                    publication.body,
                    publication.properties,
                    mandatory=True,
                )
            except (ValueError, TypeError, OverflowError, *UNWRITABLE):
                results.done({position: UNSENDABLE})
                continue
            self._open[self._next_tag] = (position, publication, results)
            self._next_tag += 1

    def _connected(self) -> None:
        self._generation += 1
        generation = self._generation
        self._is_blocked = False
        channel = self.link.channel(lambda _channel: self._opened(generation))
        channel.add_on_close_callback(lambda _channel, error: self._closed(generation, error))
        channel.add_on_return_callback(self._returned)
        self._channel = channel

    def _opened(self, generation: int) -> None:
        if generation == self._generation and self._channel is not None:
            self._next_tag = 1
            self._channel.confirm_delivery(
                self._confirmed, callback=lambda _frame: self._confirming(generation)
            )

    def _confirming(self, generation: int) -> None:
        if generation == self._generation:
            with self._changed:
                self._is_ready, self._problem, self._failures = True, None, 0
                self._changed.notify_all()

    def _confirmed(self, frame: Any) -> None:
        code = "" if type(frame.method).__name__.endswith("Ack") else REFUSED
        tag = frame.method.delivery_tag
        codes: dict[_Results, dict[int, str]] = {}
        for confirmed in self._tags_until(tag) if frame.method.multiple else (tag,):
            entry = self._open.pop(confirmed, None)
            if entry is not None:
                position, _, results = entry
                is_returned = confirmed in self._returned_tags
                codes.setdefault(results, {})[position] = NO_ROUTE if is_returned else code
        for results, of_call in codes.items():
            results.done(of_call)
        if self._returned_tags:
            self._returned_tags &= self._open.keys()

    def _tags_until(self, last: int) -> list[int]:
        """Return the open tags up to one; they are in order."""
        tags: list[int] = []
        for tag in self._open:
            if tag > last:
                break
            tags.append(tag)
        return tags

    def _returned(self, _channel: object, method: Any, properties: Any, body: bytes) -> None:
        """Mark what came back. It has no tag; of equal ones it does not matter which is marked."""
        same = [
            tag
            for tag, (_, publication, _) in self._open.items()
            if tag not in self._returned_tags
            and publication.queue == method.routing_key
            and publication.body == body
        ]
        equal = [tag for tag in same if self._open[tag][1].properties == properties]
        self._returned_tags.update((equal or same)[:1])

    def _closed(self, generation: int, error: BaseException) -> None:
        if generation == self._generation:
            self._lose(error)
            self._io.later(1.0, lambda: self._reopen(generation))

    def _reopen(self, generation: int) -> None:
        if generation == self._generation and self.link.is_open:
            self._connected()

    def _lose(self, error: BaseException) -> None:
        self._channel = None
        self._fail_open(error)
        with self._changed:
            self._is_ready, self._problem = False, error
            self._failures += 1
            self._changed.notify_all()

    def _blocked(self, is_blocked: bool) -> None:
        self._is_blocked = is_blocked
        if is_blocked:
            self._fail_open(NotConfirmed("the server takes nothing: an alarm of memory or disk"))

    def _fail_open(self, error: BaseException) -> None:
        entries, self._open = self._open, {}
        self._returned_tags.clear()
        for _, _, results in entries.values():
            results.fail(error)
