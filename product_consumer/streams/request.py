"""A client of stages: sends one file and waits for what they make of it."""

import json
import logging
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from uuid import uuid4

from product_consumer.errors import QueueUnavailable
from product_consumer.models import Envelope, Message
from product_consumer.queues.base import Outgoing
from product_consumer.queues.rabbitmq.url import AmqpUrl
from product_consumer.settings import Settings
from product_consumer.streams.content import CONTENT_TYPES, UNKNOWN, picture_extension
from product_consumer.streams.headers import APP_ID, FILE_NAME
from product_consumer.text import printable

log = logging.getLogger(__name__)

REJECTED = "rejected"
"""The kind of an answer that tells why there is none."""

_POLL_SECONDS = 1


@dataclass(frozen=True, slots=True)
class Request:
    """A file to send, with the name that its answer is found by."""

    body: bytes
    filename: str
    correlation_id: str

    def message(self, reply_to: str) -> Outgoing:
        """Return the request as a message; ``reply_to``: the queue for its answer."""
        envelope = Envelope(
            message_id=self.correlation_id,
            content_type=content_type_of(self.body),
            correlation_id=self.correlation_id,
            reply_to=reply_to,
            app_id=APP_ID,
            timestamp=datetime.now(UTC),
            headers={FILE_NAME: self.filename},
        )
        return Outgoing(self.body, {}, envelope)


def new_request(path: Path) -> Request:
    """Read a file; raises ``OSError``."""
    return Request(path.read_bytes(), path.name, str(uuid4()))


def ask(
    url: AmqpUrl,
    settings: Settings,
    request: Request,
    *,
    wait_seconds: float,
    is_stopping: Callable[[], bool],
) -> Message | None:
    """Send a request to a queue; return its answer, or None when there was none in time.

    The answer comes to a queue of its own, which is deleted in the end. Raises
    ``QueueUnavailable`` and ``ConfigurationError``.
    """
    # Imported here: a wrong option is reported before the client is loaded.
    from product_consumer.queues.rabbitmq.opening import open_stream_queue, open_stream_sender

    reply_url = url.with_queue(f"reply-{request.correlation_id}")
    with ExitStack() as closing_:
        sender = closing_.enter_context(closing(open_stream_sender(url, settings)))
        label = f"RabbitMQ ({reply_url.queue})"
        closing_.callback(_delete, reply_url, settings)
        queue = open_stream_queue(reply_url, settings, label=label, prefetch=1)
        closing_.enter_context(closing(queue))
        deadline = monotonic() + wait_seconds
        refused = sender.send([request.message(reply_url.queue)])
        if refused:
            raise QueueUnavailable(url.queue, f"the request was not taken ({refused[0]})")
        while not is_stopping() and monotonic() < deadline:
            for message in queue.receive(1, _POLL_SECONDS):
                queue.acknowledge([message])
                if message.envelope.correlation_id == request.correlation_id:
                    return message
    return None


def _delete(url: AmqpUrl, settings: Settings) -> None:
    """Delete a queue by a connection of its own: one that has sent may be blocked by an alarm."""
    from product_consumer.queues.rabbitmq.opening import open_stream_sender

    try:
        with closing(open_stream_sender(url, settings)) as sender:
            sender.delete(url.queue)
    except QueueUnavailable as error:
        log.warning("The queue %s is left behind: %s", url.queue, error)


def shown(answer: Message) -> str:
    """Return an answer as text: its body, or what is said of pixels."""
    if isinstance(answer.body, str):
        # JSON has escaped what could steer a terminal.
        return answer.body if answer.body.startswith("{") else printable(answer.body)
    headers = {name: str(value) for name, value in answer.envelope.headers.items()}
    return json.dumps({"bytes": len(answer.body), "headers": headers})


def is_refusal(answer: Message) -> bool:
    """Return whether a stage answers that it rejected the request."""
    return answer.attributes.get("kind") == REJECTED


def content_type_of(body: bytes) -> str:
    """Return the content type of a file by its content."""
    extension = picture_extension(body)
    if extension != UNKNOWN:
        return CONTENT_TYPES[extension]
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        return CONTENT_TYPES[UNKNOWN]
    try:
        is_object = isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        is_object = False
    return "application/json" if is_object else "text/plain"
