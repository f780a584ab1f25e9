"""Traces that go from message to message: the headers ``traceparent`` and ``tracestate`` of W3C.

Where no SDK of OpenTelemetry is set up, a message's headers are carried on unchanged. With one,
receiving, working, sending and settling are spans, and the headers name the span that sent.
OpenTelemetry is optional: nothing imports it unless it is installed.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from time import time_ns
from typing import TYPE_CHECKING, Any, Protocol

from product_consumer.models import Message
from product_consumer.outcomes import Rejected
from product_consumer.queues.base import Backlog, MessageQueue

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

HEADERS = ("traceparent", "tracestate")
MAX_HEADER_CHARACTERS = 4096
"""W3C asks for 512 characters at least; a producer may send any number."""

Carrier = dict[str, str]
"""The tracing headers of one message."""


class Tracing(Protocol):
    """What is told of messages for traces. Any thread may call it."""

    def processing(self, messages: Sequence[Message]) -> AbstractContextManager[None]:
        """Work on messages in this block, in this thread."""
        ...

    def sending(
        self, queue_name: str, causes: Sequence[Message]
    ) -> AbstractContextManager[list[Carrier]]:
        """Send one message for each cause in this block; yields the headers of each, in order."""
        ...

    def starting(self, queue_name: str, message_id: str) -> Carrier:
        """Return the headers of a message that begins a trace: no other message caused it."""
        ...

    def watch(self, queue: MessageQueue) -> MessageQueue:
        """Return the queue that messages come from, so that it tells of receiving and settling."""
        ...


def carried(message: Message) -> Carrier:
    """Return the tracing headers of a message."""
    found = {name: message.attributes.get(name, "") for name in HEADERS}
    return {name: text for name, text in found.items() if 0 < len(text) <= MAX_HEADER_CHARACTERS}


def open_tracing(queue_name: str) -> Tracing:
    """Return the tracing of a process that reads ``queue_name``: real where an SDK is set up."""
    try:
        from opentelemetry import trace
    except ImportError:
        return NO_TRACING
    off = (trace.ProxyTracerProvider, trace.NoOpTracerProvider)
    provider = trace.get_tracer_provider()
    return (
        NO_TRACING
        if isinstance(provider, off)
        else Spans(provider.get_tracer(__name__), queue_name)
    )


class _Unchanged:
    """Tracing that is off: headers are carried on as they came."""

    def processing(self, messages: Sequence[Message]) -> AbstractContextManager[None]:
        return nullcontext()

    def sending(
        self, queue_name: str, causes: Sequence[Message]
    ) -> AbstractContextManager[list[Carrier]]:
        return nullcontext([carried(message) for message in causes])

    def starting(self, queue_name: str, message_id: str) -> Carrier:
        return {}

    def watch(self, queue: MessageQueue) -> MessageQueue:
        return queue


NO_TRACING: Tracing = _Unchanged()


class Spans:
    """Spans of OpenTelemetry with the attributes of its rules for messaging. Thread-safe."""

    def __init__(self, tracer: "Tracer", queue_name: str) -> None:
        from opentelemetry.trace.propagation import tracecontext

        self._tracer = tracer
        self._queue_name = queue_name
        self._format = tracecontext.TraceContextTextMapPropagator()
        self._threads = threading.local()

    @contextmanager
    def processing(self, messages: Sequence[Message]) -> Iterator[None]:
        """See ``Tracing``: a span for each message, within the trace of its sender."""
        spans = {message.receipt_handle: self._process_span(message) for message in messages}
        self._threads.spans = spans
        try:
            yield
        finally:
            self._threads.spans = {}
            for span in spans.values():
                span.end()

    @contextmanager
    def sending(self, queue_name: str, causes: Sequence[Message]) -> Iterator[list[Carrier]]:
        """See ``Tracing``: a span for each message, within the span of its cause's work."""
        from opentelemetry.trace import SpanKind, set_span_in_context

        parents: dict[str, Span] = getattr(self._threads, "spans", {})
        spans, carriers = [], []
        for message in causes:
            parent = parents.get(message.receipt_handle)
            within = None if parent is None else set_span_in_context(parent)
            span = self._span("send", queue_name, SpanKind.PRODUCER, message.message_id, within)
            carrier: Carrier = {}
            self._format.inject(carrier, set_span_in_context(span))
            spans.append(span)
            carriers.append(carrier or carried(message))
        try:
            yield carriers
        finally:
            for span in spans:
                span.end()

    def starting(self, queue_name: str, message_id: str) -> Carrier:
        """See ``Tracing``: a span of its own."""
        from opentelemetry.trace import SpanKind, set_span_in_context

        span = self._span("send", queue_name, SpanKind.PRODUCER, message_id)
        carrier: Carrier = {}
        self._format.inject(carrier, set_span_in_context(span))
        span.end()
        return carrier

    def watch(self, queue: MessageQueue) -> MessageQueue:
        """See ``Tracing``."""
        return _WatchedQueue(queue, self)

    @contextmanager
    def settling(self, count: int) -> Iterator[None]:
        """Make a span of settling ``count`` messages in this block."""
        with self._counted("settle", count, time_ns()):
            yield

    def received(self, count: int, started_ns: int) -> None:
        """Make a span of receiving ``count`` messages, which has just ended."""
        with self._counted("receive", count, started_ns):
            pass

    @contextmanager
    def _counted(self, name: str, count: int, started_ns: int) -> Iterator[None]:
        from opentelemetry.trace import SpanKind

        span = self._span(name, self._queue_name, SpanKind.CONSUMER, started_ns=started_ns)
        span.set_attribute("messaging.batch.message_count", count)
        try:
            yield
        finally:
            span.end()

    def _process_span(self, message: Message) -> "Span":
        from opentelemetry.trace import SpanKind

        within = self._format.extract(carried(message))
        message_id = message.message_id
        return self._span("process", self._queue_name, SpanKind.CONSUMER, message_id, within)

    def _span(
        self,
        name: str,
        queue_name: str,
        kind: Any,
        message_id: str | None = None,
        within: Any = None,
        started_ns: int | None = None,
    ) -> "Span":
        attributes = {
            "messaging.system": "rabbitmq",
            "messaging.destination.name": queue_name,
            "messaging.operation.name": name,
        }
        if message_id is not None:
            attributes["messaging.message.id"] = message_id
        return self._tracer.start_span(
            f"{name} {queue_name}",
            context=within,
            kind=kind,
            attributes=attributes,
            start_time=started_ns,
        )


class _WatchedQueue:
    """A queue whose receiving and settling are spans; everything else is the queue's own."""

    def __init__(self, queue: MessageQueue, spans: Spans) -> None:
        self._queue = queue
        self._spans = spans
        self.label = queue.label
        self.max_hold_seconds = queue.max_hold_seconds

    @property
    def counts_lag_seconds(self) -> float:
        return self._queue.counts_lag_seconds

    def receive(self, max_messages: int, wait_seconds: int) -> list[Message]:
        started_ns = time_ns()
        messages = self._queue.receive(max_messages, wait_seconds)
        if messages:
            self._spans.received(len(messages), started_ns)
        return messages

    def acknowledge(self, messages: Sequence[Message]) -> None:
        with self._spans.settling(len(messages)):
            self._queue.acknowledge(messages)

    def retry_later(self, message: Message, delay_seconds: float) -> None:
        with self._spans.settling(1):
            self._queue.retry_later(message, delay_seconds)

    def copy_rejected(self, message: Message, rejected: Rejected) -> None:
        with self._spans.settling(1):
            self._queue.copy_rejected(message, rejected)

    def release(self, messages: Sequence[Message]) -> None:
        with self._spans.settling(len(messages)):
            self._queue.release(messages)

    def extend(self, messages: Sequence[Message], visibility_seconds: int) -> list[Message]:
        return self._queue.extend(messages, visibility_seconds)

    def probe(self) -> None:
        self._queue.probe()

    def backlog(self) -> Backlog:
        return self._queue.backlog()

    def describe(self) -> str:
        return self._queue.describe()

    def close(self) -> None:
        self._queue.close()
