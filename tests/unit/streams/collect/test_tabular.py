"""Records become lines; a message is done once its line is written."""

from collections.abc import Sequence
from typing import Any

import pytest

from product_consumer.errors import Unavailable
from product_consumer.models import Envelope, Message
from product_consumer.outcomes import Rejected, Released, Stored
from product_consumer.pipeline.context import new_context
from product_consumer.queues.in_flight import InFlightTracker
from product_consumer.queues.memory import InMemoryQueue
from product_consumer.streams.collect.tabular import TabularPipeline
from tests.support import factories


class Kept:
    """Lines in memory."""

    def __init__(self, *, is_ascii: bool = False, is_full: bool = False) -> None:
        self.is_ascii = is_ascii
        self._is_full = is_full
        self.writes: list[list[str]] = []

    def write(self, lines: Sequence[str]) -> None:
        if self._is_full:
            raise Unavailable("output", "No space left on device")
        self.writes.append(list(lines))

    def probe(self) -> None:
        """Always fine."""


def process(lines: Kept, *messages: Message) -> Sequence[Any]:
    context = new_context()
    context.stopping.set()
    in_flight = InFlightTracker(InMemoryQueue(), 30)
    with in_flight.track(messages):
        return TabularPipeline(lines, in_flight, context, max_attempts=3).process(messages)


def test_a_batch_is_one_write_in_order() -> None:
    lines = Kept()
    messages = [factories.message(body) for body in ('{"b": NaN, "a": 1}', b'{"a": "\\u0007"}')]

    outcomes = process(lines, *messages)

    assert lines.writes == [['{"b": null, "a": 1}', '{"a": "\\u0007"}']]
    assert outcomes == [Stored(message.message_id) for message in messages]


def test_what_is_no_record_is_rejected_and_the_stream_goes_on() -> None:
    lines = Kept()
    coded = factories.message(b"{}", envelope=Envelope(content_encoding="gzip"))

    outcomes = process(lines, factories.message(b"[]"), coded, factories.message(b'{"a": 1e400}'))
    [good] = process(lines, factories.message(b"{}"))

    assert [outcome.reason for outcome in outcomes] == [
        "json_not_object",
        "content_encoding",
        "number_range",
    ]
    assert all(isinstance(outcome, Rejected) for outcome in outcomes)
    assert isinstance(good, Stored)
    assert lines.writes == [["{}"]]


def test_a_message_whose_line_is_not_written_is_not_done() -> None:
    [outcome] = process(Kept(is_full=True), factories.message(b"{}"))

    assert outcome == Released("output is unavailable: No space left on device")


@pytest.mark.parametrize(("is_ascii", "line"), [(True, '{"a": "\\u00e9"}'), (False, '{"a": "é"}')])
def test_letters_that_an_output_lacks_are_escaped(is_ascii: bool, line: str) -> None:
    lines = Kept(is_ascii=is_ascii)
    process(lines, factories.message('{"a": "é"}'))

    assert lines.writes == [[line]]
