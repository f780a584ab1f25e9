"""Rejected messages in a dead-letter queue, read without being consumed.

Few queues can show a message without receiving it. So the messages are received, hidden while they
are read, and released at the end; each reading raises their receive counts by one. A limit on
receives in the dead-letter queue itself would therefore take them away after a few readings.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace

from product_consumer.errors import QueueUnavailable
from product_consumer.models import Message
from product_consumer.queue_addresses import StreamName
from product_consumer.queues.base import MAX_RECEIVED, MessageQueue, size_bytes
from product_consumer.queues.dead_letters.file import RejectedFile
from product_consumer.queues.dead_letters.redrive import (
    MAX_HELD_BYTES,
    Collected,
    DeadLetters,
    IsStopped,
    RejectedMessage,
    Selection,
    grouped,
    selected,
)
from product_consumer.queues.opening import open_dead_letter_queue
from product_consumer.settings import Settings

log = logging.getLogger(__name__)

# A long poll asks all servers of a queue, so that an empty response means an empty queue.
_WAIT_SECONDS = 1
_MIN_HIDDEN_SECONDS = 300
_MAX_HIDDEN_SECONDS = 43_200
# A slow server: one receive a second, of up to ten messages.
_MESSAGES_PER_SECOND = 10
# A copy lacks its attributes only where they did not fit beside the body. Servers allow 256 KiB or
# more for both.
_MIN_BARE_BODY_BYTES = 250_000


def open_dead_letters(
    settings: Settings, stream: StreamName, *, limit: int, from_file: bool = False
) -> DeadLetters:
    """Return the dead-letter queue of a stream, or ``DATA_DIR/rejected.jsonl`` where there is none
    or ``from_file`` asks for it.

    ``limit``: the number of messages that will be read. Raises as ``queues.opening.open_queue``.
    """
    file = RejectedFile(settings.reject_log_path)
    if from_file:
        return file
    seconds = hidden_seconds(limit)
    queue = open_dead_letter_queue(settings, stream, seconds)
    return file if queue is None else DeadLetterQueue(queue.label, queue, seconds, file)


def hidden_seconds(limit: int) -> int:
    """Return how long to hide messages while ``limit`` of them are read."""
    return min(_MIN_HIDDEN_SECONDS + limit // _MESSAGES_PER_SECOND, _MAX_HIDDEN_SECONDS)


class DeadLetterQueue:
    """The rejected messages in a queue that hides them for ``hidden_seconds``.

    Implements ``DeadLetters``; for one thread. ``reject_log`` has the attributes of copies that the
    queue took without them. ``close`` closes the queue too.
    """

    def __init__(
        self, label: str, queue: MessageQueue, hidden_seconds: int, reject_log: RejectedFile
    ) -> None:
        self.label = label
        self._queue = queue
        self._hidden_seconds = hidden_seconds
        self._reject_log = reject_log
        self._held: dict[str, Message] = {}

    def collect(self, is_selected: Selection, limit: int, is_stopped: IsStopped) -> Collected:
        is_complete = self._hold(limit, is_stopped)
        messages, others_count = selected(grouped(self._with_attributes()), is_selected)
        return Collected(messages, is_complete, others_count)

    def keep(self, messages: Sequence[RejectedMessage]) -> list[RejectedMessage]:
        copies = [copy for message in messages for copy in message.copies]
        lost = self._queue.extend(copies, self._hidden_seconds)
        for copy in lost:
            self._held.pop(copy.message_id, None)
        return [message for message in messages if all(copy not in lost for copy in message.copies)]

    def remove(self, messages: Sequence[RejectedMessage]) -> None:
        copies = [copy for message in messages for copy in message.copies]
        self._queue.acknowledge(copies)
        for copy in copies:
            self._held.pop(copy.message_id, None)

    def close(self) -> None:
        try:
            self._queue.release(list(self._held.values()))
        except QueueUnavailable as error:
            log.warning(
                "Could not give back %d messages, they are visible again within %d s: %s",
                len(self._held),
                self._hidden_seconds,
                error,
            )
        finally:
            self._queue.close()

    def _hold(self, limit: int, is_stopped: IsStopped) -> bool:
        """Receive until nothing is left; False where a limit or a stop came first."""
        held_bytes = 0
        while len(self._held) < limit and held_bytes < MAX_HELD_BYTES and not is_stopped():
            asked_count = min(MAX_RECEIVED, limit - len(self._held))
            received = self._queue.receive(asked_count, _WAIT_SECONDS)
            seen_again = any(copy.message_id in self._held for copy in received)
            # Also those seen before: the newest receipt is the one that settles a message.
            self._held |= {copy.message_id: copy for copy in received}
            if not received:
                return True
            if seen_again:
                # The first messages are visible again: one round takes longer than they are hidden.
                return False
            held_bytes += sum(size_bytes(copy.body) for copy in received)
        return False

    def _with_attributes(self) -> list[Message]:
        """Return the held copies; a copy without attributes gets those of the reject log."""
        held = list(self._held.values())
        bare_bodies = {copy.body for copy in held if _is_bare(copy)}
        attributes = self._reject_log.attributes_by_body(bare_bodies) if bare_bodies else {}
        return [
            replace(copy, attributes=attributes[copy.body])
            if _is_bare(copy) and copy.body in attributes
            else copy
            for copy in held
        ]


def _is_bare(copy: Message) -> bool:
    return not copy.attributes and size_bytes(copy.body) >= _MIN_BARE_BODY_BYTES
