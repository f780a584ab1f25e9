"""The queues that the results of a stage go to, and the messages that carry the results there.

A result counts as sent once the queue has confirmed it. Sent again after a crash, it has the same
message id.
"""

import hashlib
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

from product_consumer.errors import QueueUnavailable, RejectMessage
from product_consumer.models import Envelope, Message
from product_consumer.queues.base import Outgoing
from product_consumer.streams.headers import APP_ID, FILE_NAME
from product_consumer.streams.stages.item import Result, StageItem

log = logging.getLogger(__name__)

NO_ROUTE = "NoRoute"
"""The code of a sender for a message that no queue took."""
NOT_TAKEN = "Refused"
"""The code of a sender for a message that a queue did not take now: it is full."""

_ID_DIGITS = 32


class StreamSender(Protocol):
    """A sender to any queue of one server; each message is confirmed. Any thread may call it."""

    def send(
        self, messages: Iterable[Outgoing], *, queue_name: str | None = None
    ) -> dict[int, str]:
        """Send messages; return an error code for each that was refused, by position.

        Raises ``QueueUnavailable`` when the server cannot be reached.
        """
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class Outlet:
    """A queue for results. Thread-safe. It is made again when it was deleted."""

    def __init__(self, queue_name: str, open_sender: Callable[[], StreamSender]) -> None:
        """``open_sender``: connects, and makes the queue when it is missing."""
        self.queue_name = queue_name
        self._open_sender = open_sender
        self._sender: StreamSender | None = None
        self._lock = threading.Lock()

    def open(self) -> None:
        """Connect; raises ``QueueUnavailable`` and ``ConfigurationError``."""
        with self._lock:
            if self._sender is None:
                self._sender = self._open_sender()

    def send(self, messages: Sequence[Outgoing]) -> dict[int, Exception]:
        """Send messages; return the error of each that was refused for its own sake.

        Raises ``QueueUnavailable``; some may have been sent then.
        """
        if not messages:
            return {}
        sender = self._opened()
        codes = sender.send(messages)
        if NO_ROUTE in codes.values():
            self._forget(sender)
            raise QueueUnavailable(self.queue_name, "the queue is gone")
        if NOT_TAKEN in codes.values():
            raise QueueUnavailable(self.queue_name, "the queue takes no more messages")
        return {
            position: RejectMessage("result_refused", f"{self.queue_name} answered {code}")
            for position, code in codes.items()
        }

    def reply(self, queue_name: str, messages: Sequence[Outgoing]) -> int:
        """Send answers to the queue of a client; return how many it did not take.

        Raises ``QueueUnavailable``.
        """
        return len(self._opened().send(messages, queue_name=queue_name))

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            sender, self._sender = self._sender, None
        if sender is not None:
            sender.close()

    def _opened(self) -> StreamSender:
        self.open()
        sender = self._sender
        if sender is None:
            raise QueueUnavailable(self.queue_name, "closed")
        return sender

    def _forget(self, sender: StreamSender) -> None:
        """Let the next call connect again, which makes the queue that is missing."""
        with self._lock:
            if self._sender is not sender:
                return
            self._sender = None
        sender.close()
        log.warning("The queue %s is gone and is made again", self.queue_name)


def result_id(stage: str, message: Message) -> str:
    """Return the message id of a stage's result: the same at every delivery of its message."""
    name = f"{stage}\n{message.message_id}".encode("utf-8", "replace")
    return hashlib.sha256(name).hexdigest()[:_ID_DIGITS]


def result_message(
    stage: str, item: StageItem, result: Result, trace: Mapping[str, str], *, reply_to: str = ""
) -> Outgoing:
    """Return a result as a message.

    ``trace``: its headers for tracing. ``reply_to``: the queue of the client, where a later stage
    is to answer.
    """
    filename = item.filename
    envelope = Envelope(
        message_id=result_id(stage, item.message),
        content_type=result.content_type,
        correlation_id=item.correlation_id,
        reply_to=reply_to,
        app_id=APP_ID,
        timestamp=datetime.now(UTC),
        headers={**({} if filename is None else {FILE_NAME: filename}), **result.headers},
    )
    return Outgoing(result.body, trace, envelope)
