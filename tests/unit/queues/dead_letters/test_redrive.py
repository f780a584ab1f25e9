"""Rejected messages are looked at without being lost, and go back as what they were."""

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


class Letters(InMemoryQueue):
    """A dead-letter queue whose long polls do not wait."""

    def receive(self, max_messages: int, wait_seconds: int) -> list[Message]:
        return super().receive(max_messages, 0)

    def copy(self, message_id: str, body: str = "{", reason: str = "json_invalid") -> None:
        """Put a rejected message's copy here, as a worker does."""
        self.send(body, attributes=copy_attributes(message_id, reason))


class Outbox:
    """A ``Sender`` of text that keeps what it is given; bodies in ``refused`` fail."""

    queue_name = "products"
    batch_size = 10

    def __init__(self, *refused: str) -> None:
        self.sent: list[Outgoing] = []
        self._refused = refused

    def send(self, messages: Sequence[Outgoing]) -> dict[int, str]:
        codes = {i: "TooLong" for i, each in enumerate(messages) if each.body in self._refused}
        codes |= {i: NOT_TEXT for i, each in enumerate(messages) if isinstance(each.body, bytes)}
        self.sent += [each for i, each in enumerate(messages) if i not in codes]
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


def queue_of(letters: InMemoryQueue, path: Path = Path("unused")) -> DeadLetterQueue:
    return DeadLetterQueue("products-dead-letter", letters, 300, RejectedFile(path))


def found_in(place: DeadLetters, limit: int = EVERYTHING) -> list[RejectedMessage]:
    return place.collect(anything, limit, Event().is_set).messages


def redrive_all(place: DeadLetters, outbox: Outbox, stopping: Event | None = None) -> Any:
    """Return how many were redriven, and the failures."""
    stopping = stopping or Event()
    found = place.collect(anything, EVERYTHING, Event().is_set).messages
    steps = list(redrive(place, found, outbox, stopping.is_set))
    place.close()
    return sum(step.redriven_count for step in steps), [f for step in steps for f in step.failed]


def file_with(path: Path, *message_ids: str, body: str = "{") -> RejectedFile:
    for message_id in message_ids:
        RejectLog(path).append(copy_attributes(message_id), body)
    return RejectedFile(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rejected.jsonl"


def test_a_look_gives_every_message_back() -> None:
    letters = Letters()
    for number in range(23):
        letters.copy(f"m{number}")
    place = queue_of(letters)

    assert len(found_in(place)) == 23
    assert letters.backlog().visible == 0
    place.close()
    assert letters.backlog().visible == 23


def test_a_look_ends_at_the_limit_and_says_that_more_may_wait() -> None:
    letters = Letters()
    for number in range(15):
        letters.copy(f"m{number}")

    found = queue_of(letters).collect(anything, 12, Event().is_set)

    assert len(found.messages) == 12
    assert not found.is_complete


def test_a_look_at_everything_is_complete() -> None:
    letters = Letters()
    letters.copy("m")

    assert queue_of(letters).collect(anything, 12, Event().is_set).is_complete


def test_a_look_ends_when_messages_come_round_again() -> None:
    letters = Letters(visibility_timeout_seconds=0)
    for number in range(5):
        letters.copy(f"m{number}")

    found = queue_of(letters).collect(anything, EVERYTHING, Event().is_set)

    assert sorted(each.id for each in found.messages) == ["m0", "m1", "m2", "m3", "m4"]
    assert all(len(each.copies) == 1 for each in found.messages)
    assert not found.is_complete


def test_bodies_are_held_up_to_a_size_whatever_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("product_consumer.queues.dead_letters.queue.MAX_HELD_BYTES", 1000)
    letters = Letters()
    for number in range(50):
        letters.copy(f"m{number}", "₫" * 50)

    found = queue_of(letters).collect(anything, EVERYTHING, Event().is_set)

    assert len(found.messages) == 10
    assert not found.is_complete


def test_a_stop_ends_a_look_and_everything_is_given_back() -> None:
    stopping = Event()

    class Interrupted(Letters):
        def receive(self, max_messages: int, wait_seconds: int) -> list[Message]:
            stopping.set()
            return super().receive(max_messages, wait_seconds)

    letters = Interrupted()
    for number in range(30):
        letters.copy(f"m{number}")
    place = queue_of(letters)

    found = place.collect(anything, EVERYTHING, stopping.is_set)
    place.close()

    assert len(found.messages) == 10
    assert not found.is_complete
    assert letters.backlog().visible == 30


def test_a_queue_that_went_away_does_not_hide_the_first_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    letters = Letters()
    letters.copy("m")
    place = queue_of(letters)
    found_in(place)
    letters.available = False

    place.close()

    assert "visible again within 300 s" in caplog.text


@pytest.mark.parametrize(("limit", "seconds"), [(1, 300), (1000, 400), (100_000_000, 43_200)])
def test_a_longer_look_hides_messages_for_longer(limit: int, seconds: int) -> None:
    assert hidden_seconds(limit) == seconds


def test_copies_of_one_message_are_one_message() -> None:
    letters = Letters()
    letters.copy("same")
    letters.copy("other")
    letters.copy("same")

    found = found_in(queue_of(letters))

    assert {each.id: len(each.copies) for each in found} == {"same": 2, "other": 1}


def test_equal_ids_with_other_bodies_are_not_copies() -> None:
    letters = Letters()
    letters.copy("same", "{")
    letters.copy("same", "[")

    assert [len(each.copies) for each in found_in(queue_of(letters))] == [1, 1]


def test_a_message_that_the_queue_moved_has_its_own_id_and_no_reason() -> None:
    letters = Letters()
    sent_at = datetime(2026, 11, 21, 14, 30, 9, 7000, tzinfo=UTC)
    message_id = letters.send("{", attributes={"message_id": "forged"}, sent_at=sent_at)

    [found] = found_in(queue_of(letters))

    assert (found.id, found.reason, found.stage) == (message_id, MOVED_BY_THE_QUEUE, "")
    assert (found.receive_count, found.first_sent) == (1, "2026-11-21T14:30:09.007000Z")


def test_a_redriven_message_is_the_same_bytes_with_its_first_version() -> None:
    letters, outbox = Letters(), Outbox()
    body = '{"id": "\u2028 \\ud800 Áo",\r\n}'
    sent_at = datetime(2026, 11, 21, 14, 30, 9, 7000, tzinfo=UTC)
    letters.send(body, attributes=copy_attributes("m", sent_at=sent_at))

    redrive_all(queue_of(letters), outbox)

    [sent] = outbox.sent
    assert sent.body == body
    assert sent.attributes == {
        "original_version": "1795271409007000",
        "first_sent": "2026-11-21T14:30:09.007000Z",
        "original_message_id": "m",
    }


def test_a_message_that_the_queue_moved_gets_its_sent_time_as_version() -> None:
    letters, outbox = Letters(), Outbox()
    letters.send("{", sent_at=datetime(2026, 11, 21, 14, 30, 9, 7000, tzinfo=UTC))

    redrive_all(queue_of(letters), outbox)

    assert outbox.sent[0].attributes["original_version"] == "1795271409007000"


def test_the_version_of_the_first_of_several_redrives_is_kept() -> None:
    letters, outbox = Letters(), Outbox()
    letters.send("{", attributes={"original_version": "17", "original_message_id": "first"})

    redrive_all(queue_of(letters), outbox)

    assert outbox.sent[0].attributes["original_version"] == "17"


def test_all_copies_are_redriven_as_one_and_deleted() -> None:
    letters, outbox = Letters(), Outbox()
    for _ in range(3):
        letters.copy("same")

    assert redrive_all(queue_of(letters), outbox) == (1, [])
    assert len(outbox.sent) == 1
    assert letters.backlog().is_empty


def test_a_message_that_cannot_be_sent_stays_and_harms_no_other() -> None:
    letters = Letters()
    for number in range(23):
        letters.copy(f"m{number}", f"body {number}")

    redriven_count, failed = redrive_all(queue_of(letters), Outbox("body 3", "body 17"))

    assert redriven_count == 21
    assert sorted(failed) == [("m17", "TooLong"), ("m3", "TooLong")]
    assert sorted(str(each.body) for each in found_in(queue_of(letters))) == ["body 17", "body 3"]


def test_a_message_that_somebody_else_has_received_meanwhile_is_left() -> None:
    now = 0.0
    letters, outbox = Letters(30, clock=lambda: now), Outbox()
    letters.copy("m")
    place = queue_of(letters)
    found = found_in(place)
    now = 31.0
    letters.receive(1, 0)

    assert [step.redriven_count for step in redrive(place, found, outbox, Event().is_set)] == [0]
    assert outbox.sent == []


def test_a_stop_ends_a_redrive_between_two_calls() -> None:
    letters, stopping = Letters(), Event()
    for number in range(25):
        letters.copy(f"m{number}")

    class Stopping(Outbox):
        def send(self, messages: Sequence[Outgoing]) -> dict[int, str]:
            stopping.set()
            return super().send(messages)

    assert redrive_all(queue_of(letters), Stopping(), stopping) == (10, [])
    assert letters.backlog().visible == 15


def test_nothing_is_deleted_when_sending_breaks_off() -> None:
    letters = Letters()
    letters.copy("m")

    class Broken(Outbox):
        def send(self, messages: Sequence[Outgoing]) -> dict[int, str]:
            raise QueueUnavailable("SQS", "gone")

    place = queue_of(letters)
    with pytest.raises(QueueUnavailable):
        list(redrive(place, found_in(place), Broken(), Event().is_set))
    place.close()

    assert letters.backlog().visible == 1


def test_a_copy_too_large_for_attributes_gets_those_of_the_log(path: Path) -> None:
    letters, outbox = Letters(), Outbox()
    body = "x" * 260_000
    letters.send(body)
    RejectLog(path).append(copy_attributes("large"), body)
    place = queue_of(letters, path)

    [found] = found_in(place)
    list(redrive(place, [found], outbox, Event().is_set))

    assert (found.id, found.reason) == ("large", "json_invalid")
    assert outbox.sent[0].attributes["original_message_id"] == "large"


def test_the_file_is_read_like_a_queue(path: Path) -> None:
    file_with(path, "a", "b")
    file = file_with(path, "a")

    found = found_in(file)

    assert {each.id: len(each.copies) for each in found} == {"a": 2, "b": 1}
    assert {(each.reason, each.stage, each.source_queue) for each in found} == {
        ("json_invalid", "validate", "products")
    }


def test_a_missing_file_holds_no_messages(path: Path) -> None:
    assert found_in(RejectedFile(path)) == []


def test_the_file_is_looked_at_up_to_the_limit(path: Path) -> None:
    file = file_with(path, *"abcdef")

    found = file.collect(anything, 4, Event().is_set)

    assert [each.id for each in found.messages] == list("abcd")
    assert not found.is_complete


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

    found = RejectedFile(path).collect(anything, EVERYTHING, Event().is_set)

    assert [each.id for each in found.messages] == ["before", "after"]
    assert found.unreadable_count == 1


def test_an_endless_line_is_passed_in_pieces(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("product_consumer.queues.dead_letters.file._MAX_LINE_BYTES", 1000)
    path.write_bytes(b"x" * 12_345 + b"\n")

    found = file_with(path, "after").collect(anything, EVERYTHING, Event().is_set)

    assert [each.id for each in found.messages] == ["after"]
    assert found.unreadable_count == 1


def test_redriven_lines_are_gone_from_the_list_and_the_file_is_untouched(path: Path) -> None:
    file_with(path, "a", "b", "a")
    before = path.read_bytes()

    assert redrive_all(RejectedFile(path), Outbox()) == (2, [])

    assert path.read_bytes() == before
    assert found_in(RejectedFile(path)) == []


def test_a_line_written_after_a_redrive_waits(path: Path) -> None:
    redrive_all(file_with(path, "a"), Outbox())

    assert [each.id for each in found_in(file_with(path, "b"))] == ["b"]


def test_a_line_that_a_worker_writes_during_a_redrive_is_kept(path: Path) -> None:
    file = file_with(path, "a")

    class BesideAWorker(Outbox):
        def send(self, messages: Sequence[Outgoing]) -> dict[int, str]:
            worker = threading.Thread(target=file_with, args=(path, "b"))
            worker.start()
            worker.join(10)
            return super().send(messages)

    assert redrive_all(file, BesideAWorker()) == (1, [])
    assert [each.id for each in found_in(RejectedFile(path))] == ["b"]


def test_a_line_that_could_not_be_sent_waits(path: Path) -> None:
    file_with(path, "a", body="refused")
    file = file_with(path, "b")

    assert redrive_all(file, Outbox("refused")) == (1, [("a", "TooLong")])
    assert [each.id for each in found_in(RejectedFile(path))] == ["a"]


def test_a_body_that_its_queue_cannot_carry_stays_and_is_told(path: Path) -> None:
    RejectLog(path).append(copy_attributes("binary"), b"\xff\x00")

    assert redrive_all(RejectedFile(path), Outbox()) == (0, [("binary", "NotText")])


def test_two_redrives_of_one_file_do_not_meet(path: Path) -> None:
    first, second = file_with(path, "a"), RejectedFile(path)
    found = found_in(first)
    first.keep(found)

    with pytest.raises(QueueUnavailable, match="another redrive"):
        second.keep(found)

    first.remove(found)
    first.close()
    assert second.keep(found) == []
    second.close()


def test_a_redrive_is_on_disk_before_it_counts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = file_with(path, "a")
    sizes_at_sync: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda fd: sizes_at_sync.append(os.fstat(fd).st_size))

    redrive_all(file, Outbox())

    assert sizes_at_sync == [path.with_suffix(".redriven").stat().st_size]


def test_a_mark_cut_short_by_a_crash_does_not_spoil_the_next(path: Path) -> None:
    file = file_with(path, "a")
    path.with_suffix(".redriven").write_bytes(b"0123")

    redrive_all(file, Outbox())

    assert found_in(RejectedFile(path)) == []


@pytest.mark.parametrize(
    ("body", "found"),
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
def test_the_product_id_is_read_as_well_as_it_can_be(body: str | bytes, found: str | None) -> None:
    assert product_id(body) == found


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ('{"order_id": "ORD1", "id": "abc"}', "ORD1"),
        ('{"order_id": "ORD1", "items": [', "ORD1"),
        ('{"id": "abc"}', None),
        ('{"order_id": [1]}', None),
    ],
)
def test_the_order_id_is_read_as_well_as_it_can_be(body: str, found: str | None) -> None:
    assert order_id(body) == found


@given(st.text() | st.binary(), st.text(), st.text(min_size=1))
def test_no_message_forges_a_line_or_steers_the_terminal(
    body: str | bytes, message_id: str, reason: str
) -> None:
    attributes = {"message_id": message_id, "reason": reason, "note\x1b[2J": "\u202ex"}
    shown = RejectedMessage((message(body, attributes=attributes),))

    for line in (message_line(shown), *message_lines(shown)):
        assert line.isprintable()
        line.encode()
