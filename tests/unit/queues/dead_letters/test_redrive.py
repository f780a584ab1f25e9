"""Rejected messages are read without being lost, and are sent back unchanged."""

import json
import os
import threading
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_consumer.cli.dead_letter_views import message_line, message_lines, order_id, product_id
from product_consumer.errors import QueueUnavailable
from product_consumer.models import Message
from product_consumer.outcomes import Rejected
from product_consumer.queues.base import NOT_TEXT, Outgoing
from product_consumer.queues.dead_letters.file import RejectedFile
from product_consumer.queues.dead_letters.queue import DeadLetterQueue, hidden_seconds
from product_consumer.queues.dead_letters.redrive import (
    MOVED_BY_THE_QUEUE,
    DeadLetters,
    RejectedMessage,
    redrive,
)
from product_consumer.queues.memory import InMemoryQueue
from product_consumer.queues.reject_log import RejectLog
from product_consumer.queues.rejections import rejection_attributes
from tests.support.factories import SENT_AT, body_text, message

EVERYTHING = 1000


class FakeDeadLetterQueue(InMemoryQueue):
    """A dead-letter queue whose long polls do not wait."""

    def receive(self, max_messages: int, wait_seconds: int) -> list[Message]:
        return super().receive(max_messages, 0)

    def copy(self, message_id: str, body: str = "{", reason: str = "json_invalid") -> None:
        """Put a rejected message's copy here, as a worker does."""
        self.send(body, attributes=copy_attributes(message_id, reason))


class FakeSender:
    """A ``Sender`` of text that keeps the messages it gets; bodies in ``refused`` fail."""

    queue_name = "products"
    batch_size = 10

    def __init__(self, *refused: str) -> None:
        self.sent: list[Outgoing] = []
        self._refused = refused

    def send(self, messages: Sequence[Outgoing]) -> dict[int, str]:
        codes = {
            i: "TooLong" for i, message in enumerate(messages) if message.body in self._refused
        }
        codes |= {
            i: NOT_TEXT for i, message in enumerate(messages) if isinstance(message.body, bytes)
        }
        self.sent += [message for i, message in enumerate(messages) if i not in codes]
        return codes

    def publish(self, bodies: Iterable[str]) -> int:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing to close."""


def copy_attributes(
    message_id: str, reason: str = "json_invalid", sent_at: datetime | None = None
) -> dict[str, str]:
    original = message(message_id=message_id, sent_at=sent_at or SENT_AT)
    return rejection_attributes(original, Rejected("validate", reason, "why"), "products")


def anything(_message: RejectedMessage) -> bool:
    return True


def dead_letters_in(queue: InMemoryQueue, path: Path = Path("unused")) -> DeadLetterQueue:
    return DeadLetterQueue("products-dead-letter", queue, 300, RejectedFile(path))


def messages_in(dead_letters: DeadLetters, limit: int = EVERYTHING) -> list[RejectedMessage]:
    return dead_letters.collect(anything, limit, Event().is_set).messages


def redrive_all(
    dead_letters: DeadLetters, sender: FakeSender, stopping: Event | None = None
) -> Any:
    """Return how many were redriven, and the failures."""
    stopping = stopping or Event()
    messages = dead_letters.collect(anything, EVERYTHING, Event().is_set).messages
    steps = list(redrive(dead_letters, messages, sender, stopping.is_set))
    dead_letters.close()
    return sum(step.redriven_count for step in steps), [f for step in steps for f in step.failed]


def file_with(path: Path, *message_ids: str, body: str = "{") -> RejectedFile:
    for message_id in message_ids:
        RejectLog(path).append(copy_attributes(message_id), body)
    return RejectedFile(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rejected.jsonl"


def test_reading_gives_every_message_back() -> None:
    queue = FakeDeadLetterQueue()
    for number in range(23):
        queue.copy(f"m{number}")
    dead_letters = dead_letters_in(queue)

    assert len(messages_in(dead_letters)) == 23
    assert queue.backlog().visible == 0
    dead_letters.close()
    assert queue.backlog().visible == 23


def test_reading_ends_at_the_limit_and_says_that_more_may_wait() -> None:
    queue = FakeDeadLetterQueue()
    for number in range(15):
        queue.copy(f"m{number}")

    collected = dead_letters_in(queue).collect(anything, 12, Event().is_set)

    assert len(collected.messages) == 12
    assert not collected.is_complete


def test_reading_everything_is_complete() -> None:
    queue = FakeDeadLetterQueue()
    queue.copy("m")

    assert dead_letters_in(queue).collect(anything, 12, Event().is_set).is_complete


def test_reading_ends_when_messages_are_received_again() -> None:
    queue = FakeDeadLetterQueue(visibility_timeout_seconds=0)
    for number in range(5):
        queue.copy(f"m{number}")

    collected = dead_letters_in(queue).collect(anything, EVERYTHING, Event().is_set)

    assert sorted(message.id for message in collected.messages) == ["m0", "m1", "m2", "m3", "m4"]
    assert all(len(message.copies) == 1 for message in collected.messages)
    assert not collected.is_complete


def test_bodies_are_held_up_to_a_size_whatever_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("product_consumer.queues.dead_letters.queue.MAX_HELD_BYTES", 1000)
    queue = FakeDeadLetterQueue()
    for number in range(50):
        queue.copy(f"m{number}", "₫" * 50)

    collected = dead_letters_in(queue).collect(anything, EVERYTHING, Event().is_set)

    assert len(collected.messages) == 10
    assert not collected.is_complete


def test_a_stop_ends_the_reading_and_every_message_is_given_back() -> None:
    stopping = Event()

    class Interrupted(FakeDeadLetterQueue):
        def receive(self, max_messages: int, wait_seconds: int) -> list[Message]:
            stopping.set()
            return super().receive(max_messages, wait_seconds)

    queue = Interrupted()
    for number in range(30):
        queue.copy(f"m{number}")
    dead_letters = dead_letters_in(queue)

    collected = dead_letters.collect(anything, EVERYTHING, stopping.is_set)
    dead_letters.close()

    assert len(collected.messages) == 10
    assert not collected.is_complete
    assert queue.backlog().visible == 30


def test_a_queue_that_went_away_does_not_hide_the_first_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    queue = FakeDeadLetterQueue()
    queue.copy("m")
    dead_letters = dead_letters_in(queue)
    messages_in(dead_letters)
    queue.available = False

    dead_letters.close()

    assert "visible again within 300 s" in caplog.text


@pytest.mark.parametrize(("limit", "seconds"), [(1, 300), (1000, 400), (100_000_000, 43_200)])
def test_a_higher_limit_hides_messages_for_longer(limit: int, seconds: int) -> None:
    assert hidden_seconds(limit) == seconds


def test_copies_of_one_message_are_one_message() -> None:
    queue = FakeDeadLetterQueue()
    queue.copy("same")
    queue.copy("other")
    queue.copy("same")

    messages = messages_in(dead_letters_in(queue))

    assert {message.id: len(message.copies) for message in messages} == {"same": 2, "other": 1}


def test_equal_ids_with_other_bodies_are_not_copies() -> None:
    queue = FakeDeadLetterQueue()
    queue.copy("same", "{")
    queue.copy("same", "[")

    assert [len(message.copies) for message in messages_in(dead_letters_in(queue))] == [1, 1]


def test_a_message_that_the_queue_moved_has_its_own_id_and_no_reason() -> None:
    queue = FakeDeadLetterQueue()
    sent_at = datetime(2026, 11, 21, 14, 30, 9, 7000, tzinfo=UTC)
    message_id = queue.send("{", attributes={"message_id": "forged"}, sent_at=sent_at)

    [message] = messages_in(dead_letters_in(queue))

    assert (message.id, message.reason, message.stage) == (message_id, MOVED_BY_THE_QUEUE, "")
    assert (message.receive_count, message.first_sent) == (1, "2026-11-21T14:30:09.007000Z")


def test_a_redriven_message_is_the_same_bytes_with_its_first_version() -> None:
    queue, sender = FakeDeadLetterQueue(), FakeSender()
    body = '{"id": "\u2028 \\ud800 Áo",\r\n}'
    sent_at = datetime(2026, 11, 21, 14, 30, 9, 7000, tzinfo=UTC)
    queue.send(body, attributes=copy_attributes("m", sent_at=sent_at))

    redrive_all(dead_letters_in(queue), sender)

    [sent] = sender.sent
    assert sent.body == body
    assert sent.attributes == {
        "original_version": "1795271409007000",
        "first_sent": "2026-11-21T14:30:09.007000Z",
        "original_message_id": "m",
    }


def test_a_message_that_the_queue_moved_gets_its_sent_time_as_version() -> None:
    queue, sender = FakeDeadLetterQueue(), FakeSender()
    queue.send("{", sent_at=datetime(2026, 11, 21, 14, 30, 9, 7000, tzinfo=UTC))

    redrive_all(dead_letters_in(queue), sender)

    assert sender.sent[0].attributes["original_version"] == "1795271409007000"


def test_the_version_of_the_first_of_several_redrives_is_kept() -> None:
    queue, sender = FakeDeadLetterQueue(), FakeSender()
    queue.send("{", attributes={"original_version": "17", "original_message_id": "first"})

    redrive_all(dead_letters_in(queue), sender)

    assert sender.sent[0].attributes["original_version"] == "17"


def test_all_copies_are_redriven_as_one_and_deleted() -> None:
    queue, sender = FakeDeadLetterQueue(), FakeSender()
    for _ in range(3):
        queue.copy("same")

    assert redrive_all(dead_letters_in(queue), sender) == (1, [])
    assert len(sender.sent) == 1
    assert queue.backlog().is_empty


def test_a_message_that_cannot_be_sent_stays_and_harms_no_other() -> None:
    queue = FakeDeadLetterQueue()
    for number in range(23):
        queue.copy(f"m{number}", f"body {number}")

    redriven_count, failed = redrive_all(dead_letters_in(queue), FakeSender("body 3", "body 17"))

    assert redriven_count == 21
    assert sorted(failed) == [("m17", "TooLong"), ("m3", "TooLong")]
    assert sorted(str(message.body) for message in messages_in(dead_letters_in(queue))) == [
        "body 17",
        "body 3",
    ]


def test_a_message_that_somebody_else_has_received_meanwhile_is_left() -> None:
    now = 0.0
    queue, sender = FakeDeadLetterQueue(30, clock=lambda: now), FakeSender()
    queue.copy("m")
    dead_letters = dead_letters_in(queue)
    messages = messages_in(dead_letters)
    now = 31.0
    queue.receive(1, 0)

    assert [
        step.redriven_count for step in redrive(dead_letters, messages, sender, Event().is_set)
    ] == [0]
    assert sender.sent == []


def test_a_stop_ends_a_redrive_between_two_calls() -> None:
    queue, stopping = FakeDeadLetterQueue(), Event()
    for number in range(25):
        queue.copy(f"m{number}")

    class Stopping(FakeSender):
        def send(self, messages: Sequence[Outgoing]) -> dict[int, str]:
            stopping.set()
            return super().send(messages)

    assert redrive_all(dead_letters_in(queue), Stopping(), stopping) == (10, [])
    assert queue.backlog().visible == 15


def test_nothing_is_deleted_when_sending_breaks_off() -> None:
    queue = FakeDeadLetterQueue()
    queue.copy("m")

    class Broken(FakeSender):
        def send(self, messages: Sequence[Outgoing]) -> dict[int, str]:
            raise QueueUnavailable("SQS", "gone")

    dead_letters = dead_letters_in(queue)
    with pytest.raises(QueueUnavailable):
        list(redrive(dead_letters, messages_in(dead_letters), Broken(), Event().is_set))
    dead_letters.close()

    assert queue.backlog().visible == 1


def test_a_copy_too_large_for_attributes_gets_those_of_the_log(path: Path) -> None:
    queue, sender = FakeDeadLetterQueue(), FakeSender()
    body = "x" * 260_000
    queue.send(body)
    RejectLog(path).append(copy_attributes("large"), body)
    dead_letters = dead_letters_in(queue, path)

    [message] = messages_in(dead_letters)
    list(redrive(dead_letters, [message], sender, Event().is_set))

    assert (message.id, message.reason) == ("large", "json_invalid")
    assert sender.sent[0].attributes["original_message_id"] == "large"


def test_the_file_is_read_like_a_queue(path: Path) -> None:
    file_with(path, "a", "b")
    file = file_with(path, "a")

    messages = messages_in(file)

    assert {message.id: len(message.copies) for message in messages} == {"a": 2, "b": 1}
    assert {(message.reason, message.stage, message.source_queue) for message in messages} == {
        ("json_invalid", "validate", "products")
    }


def test_a_missing_file_holds_no_messages(path: Path) -> None:
    assert messages_in(RejectedFile(path)) == []


def test_the_file_is_looked_at_up_to_the_limit(path: Path) -> None:
    file = file_with(path, *"abcdef")

    collected = file.collect(anything, 4, Event().is_set)

    assert [message.id for message in collected.messages] == list("abcd")
    assert not collected.is_complete


@pytest.mark.parametrize(
    "line",
    [
        b'{"body": "cut sh',
        b"[]",
        b"1",
        b'"text"',
        b"\xff\xfe",
        b'{"body": "no attributes"}',
        b'{"message_id": "m", "original_version": "soon", "body": ""}',
        b'{"message_id": "m", "original_version": "1", "body": 7}',
        b'{"message_id": "m", "original_version": "1", "body_base64": "%"}',
        b"[" * 100_000,
        b'{"message_id": "m", "original_version": "' + b"9" * 5000 + b'", "body": ""}',
    ],
    ids=range(11),
)
def test_a_line_that_is_no_rejected_message_is_counted_and_passed(path: Path, line: bytes) -> None:
    file_with(path, "before")
    with path.open("ab") as file:
        file.write(line + b"\n")
    file_with(path, "after")

    collected = RejectedFile(path).collect(anything, EVERYTHING, Event().is_set)

    assert [message.id for message in collected.messages] == ["before", "after"]
    assert collected.unreadable_count == 1


def test_an_endless_line_is_passed_in_pieces(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("product_consumer.queues.dead_letters.file._MAX_LINE_BYTES", 1000)
    path.write_bytes(b"x" * 12_345 + b"\n")

    collected = file_with(path, "after").collect(anything, EVERYTHING, Event().is_set)

    assert [message.id for message in collected.messages] == ["after"]
    assert collected.unreadable_count == 1


def test_redriven_lines_are_gone_from_the_list_and_the_file_is_untouched(path: Path) -> None:
    file_with(path, "a", "b", "a")
    before = path.read_bytes()

    assert redrive_all(RejectedFile(path), FakeSender()) == (2, [])

    assert path.read_bytes() == before
    assert messages_in(RejectedFile(path)) == []


def test_a_line_written_after_a_redrive_waits(path: Path) -> None:
    redrive_all(file_with(path, "a"), FakeSender())

    assert [message.id for message in messages_in(file_with(path, "b"))] == ["b"]


def test_a_line_that_a_worker_writes_during_a_redrive_is_kept(path: Path) -> None:
    file = file_with(path, "a")

    class BesideAWorker(FakeSender):
        def send(self, messages: Sequence[Outgoing]) -> dict[int, str]:
            worker = threading.Thread(target=file_with, args=(path, "b"))
            worker.start()
            worker.join(10)
            return super().send(messages)

    assert redrive_all(file, BesideAWorker()) == (1, [])
    assert [message.id for message in messages_in(RejectedFile(path))] == ["b"]


def test_a_line_that_could_not_be_sent_waits(path: Path) -> None:
    file_with(path, "a", body="refused")
    file = file_with(path, "b")

    assert redrive_all(file, FakeSender("refused")) == (1, [("a", "TooLong")])
    assert [message.id for message in messages_in(RejectedFile(path))] == ["a"]


def test_a_body_that_its_queue_cannot_carry_stays_and_is_told(path: Path) -> None:
    RejectLog(path).append(copy_attributes("binary"), b"\xff\x00")

    assert redrive_all(RejectedFile(path), FakeSender()) == (0, [("binary", "NotText")])


def test_two_redrives_of_one_file_do_not_meet(path: Path) -> None:
    first, second = file_with(path, "a"), RejectedFile(path)
    messages = messages_in(first)
    first.keep(messages)

    with pytest.raises(QueueUnavailable, match="another redrive"):
        second.keep(messages)

    first.remove(messages)
    first.close()
    assert second.keep(messages) == []
    second.close()


def test_a_redrive_is_on_disk_before_it_counts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = file_with(path, "a")
    sizes_at_sync: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda fd: sizes_at_sync.append(os.fstat(fd).st_size))

    redrive_all(file, FakeSender())

    assert sizes_at_sync == [path.with_suffix(".redriven").stat().st_size]


def test_a_redriven_key_cut_short_by_a_crash_does_not_spoil_the_next(path: Path) -> None:
    file = file_with(path, "a")
    path.with_suffix(".redriven").write_bytes(b"0123")

    redrive_all(file, FakeSender())

    assert messages_in(RejectedFile(path)) == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (body_text(), "abc123"),
        (body_text(id=7), "7"),
        ('{"id": "abc", "price": ', "abc"),
        (b'{"id": "abc"\xff', "abc"),
        ('{"id": "a", "id": "b"}', "a"),
        (json.dumps({"Type": "Notification", "Message": body_text(id="inside")}), "inside"),
        ('{"id": "a\\"b', None),
        ('{"id": true}', None),
        ('{"id": {"id2": 1}}', None),
        ("", None),
        ('{"name": "none"}', None),
    ],
)
def test_the_product_id_is_read_as_well_as_it_can_be(
    body: str | bytes, expected: str | None
) -> None:
    assert product_id(body) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"order_id": "ORD1", "id": "abc"}', "ORD1"),
        ('{"order_id": "ORD1", "items": [', "ORD1"),
        ('{"id": "abc"}', None),
        ('{"order_id": [1]}', None),
    ],
)
def test_the_order_id_is_read_as_well_as_it_can_be(body: str, expected: str | None) -> None:
    assert order_id(body) == expected


@given(st.text() | st.binary(), st.text(), st.text(min_size=1))
def test_no_message_forges_a_line_or_steers_the_terminal(
    body: str | bytes, message_id: str, reason: str
) -> None:
    attributes = {"message_id": message_id, "reason": reason, "note\x1b[2J": "\u202ex"}
    rejected = RejectedMessage((message(body, attributes=attributes),))

    for line in (message_line(rejected), *message_lines(rejected)):
        assert line.isprintable()
        line.encode()
