"""Traces: carried on unchanged where nobody records them, else spans that belong together."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from product_consumer.models import Message
from product_consumer.outcomes import Rejected
from product_consumer.queues.memory import InMemoryQueue
from product_consumer.streams.tracing import NO_TRACING, Spans, carried, open_tracing
from tests.support.stages import stream_message

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> Iterator[TracerProvider]:
    made = TracerProvider()
    made.add_span_processor(SimpleSpanProcessor(exporter))
    yield made
    made.shutdown()


@pytest.fixture
def spans(provider: TracerProvider) -> Spans:
    return Spans(provider.get_tracer("test"), "in")


def traced(**headers: object) -> Message:
    return stream_message(
        "hello", message_id="m-1", headers={"traceparent": TRACEPARENT, **headers}
    )


def named(exporter: InMemorySpanExporter, name: str) -> ReadableSpan:
    [span] = [span for span in exporter.get_finished_spans() if span.name == name]
    return span


def span_id(span: ReadableSpan) -> str:
    assert span.context is not None
    return format(span.context.span_id, "016x")


def test_without_an_sdk_headers_are_carried_on_unchanged() -> None:
    tracing = open_tracing("in")
    odd = stream_message("x", headers={"traceparent": "no trace at all", "tracestate": "x" * 5000})

    assert tracing is NO_TRACING
    with tracing.processing([odd]), tracing.sending("out", [traced(tracestate="a=1"), odd]) as sent:
        assert sent == [
            {"traceparent": TRACEPARENT, "tracestate": "a=1"},
            {"traceparent": "no trace at all"},
        ]


def test_with_an_sdk_spans_are_recorded(
    provider: TracerProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)

    assert isinstance(open_tracing("in"), Spans)


def test_work_and_sending_belong_to_the_trace_of_the_sender(
    spans: Spans, exporter: InMemorySpanExporter
) -> None:
    message = traced(tracestate="a=1")

    with spans.processing([message]), spans.sending("out", [message]) as [headers]:
        pass

    process, send = named(exporter, "process in"), named(exporter, "send out")
    assert process.parent is not None
    assert send.parent is not None
    assert format(process.parent.span_id, "016x") == "b7ad6b7169203331"
    assert format(send.parent.span_id, "016x") == span_id(process)
    assert headers == {"traceparent": f"00-{TRACE_ID}-{span_id(send)}-01", "tracestate": "a=1"}


def test_spans_say_what_they_are_about(spans: Spans, exporter: InMemorySpanExporter) -> None:
    with spans.processing([traced()]):
        pass

    attributes: Any = named(exporter, "process in").attributes
    assert attributes["messaging.system"] == "rabbitmq"
    assert attributes["messaging.destination.name"] == "in"
    assert attributes["messaging.message.id"] == "m-1"


def test_a_message_without_a_trace_begins_one(spans: Spans, exporter: InMemorySpanExporter) -> None:
    message = stream_message("hello")

    with spans.processing([message]), spans.sending("out", [message]) as [headers]:
        pass

    assert named(exporter, "process in").parent is None
    assert headers["traceparent"].split("-")[2] == span_id(named(exporter, "send out"))


def test_receiving_and_settling_are_spans(spans: Spans, exporter: InMemorySpanExporter) -> None:
    queue = InMemoryQueue()
    watched = spans.watch(queue)
    assert watched.receive(10, 0) == []
    queue.send("a")
    queue.send("b")
    queue.send("c")
    first, second, third = watched.receive(10, 0)

    watched.acknowledge([first])
    watched.copy_rejected(second, Rejected("stage", "reason", "detail"))
    watched.release([third])

    names = [span.name for span in exporter.get_finished_spans()]
    assert names == ["receive in", "settle in", "settle in", "settle in"]
    attributes: Any = exporter.get_finished_spans()[0].attributes
    assert attributes["messaging.batch.message_count"] == 3


def test_only_text_is_carried(tmp_path: Path) -> None:
    assert carried(stream_message("x", headers={"traceparent": b"bytes", "tracestate": 7})) == {}
    assert carried(stream_message("x", headers={"traceparent": ""})) == {}


def test_a_message_that_nothing_caused_begins_a_trace(
    spans: Spans, exporter: InMemorySpanExporter
) -> None:
    headers = spans.starting("in", "m-1")
    span = named(exporter, "send in")

    assert span.parent is None
    assert headers["traceparent"].split("-")[2] == span_id(span)
    assert span.attributes is not None
    assert span.attributes["messaging.message.id"] == "m-1"
    assert NO_TRACING.starting("in", "m-1") == {}
