"""A line of ``rejected.jsonl`` is whole, on disk, and tells the body as it was."""

import base64
import json
import multiprocessing
import os
import stat
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_consumer.errors import QueueUnavailable
from product_consumer.outcomes import Rejected
from product_consumer.queues.reject_log import RejectLog
from product_consumer.queues.rejections import rejection_attributes
from tests.support.factories import message

LONG_BODY = "₫" * 20_000


def lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def append_many(path: Path, name: str, count: int) -> None:
    reject_log = RejectLog(path)
    for number in range(count):
        reject_log.append({"message_id": f"{name}-{number}"}, LONG_BODY)


def test_a_line_holds_the_attributes_and_the_body(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rejected.jsonl"

    RejectLog(path).append({"reason": "json_invalid"}, '{"id": "a\u2028b"\n')

    assert lines(path) == [{"reason": "json_invalid", "body": '{"id": "a\u2028b"\n'}]


@pytest.mark.parametrize(
    "body", ["", "Áo thun", "\x00\x1b[31m", "\ud800", "line\r\nbreak\x85\u2029"], ids=ascii
)
def test_any_text_is_one_line_that_gives_it_back(tmp_path: Path, body: str) -> None:
    path = tmp_path / "rejected.jsonl"

    RejectLog(path).append({}, body)

    assert len(path.read_text(encoding="ascii").splitlines()) == 1
    assert lines(path) == [{"body": body}]


def test_bytes_that_are_text_are_written_as_text(tmp_path: Path) -> None:
    path = tmp_path / "rejected.jsonl"

    RejectLog(path).append({}, "₫".encode())

    assert lines(path) == [{"body": "₫"}]


def test_bytes_that_are_not_text_are_written_as_base64(tmp_path: Path) -> None:
    path = tmp_path / "rejected.jsonl"

    RejectLog(path).append({}, b"\xff\x00")

    assert lines(path) == [{"body_base64": base64.b64encode(b"\xff\x00").decode()}]


def test_a_line_cut_short_by_a_crash_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "rejected.jsonl"
    path.write_bytes(b'{"body": "cut sh')

    RejectLog(path).append({}, "whole")

    assert json.loads(path.read_bytes().splitlines()[-1]) == {"body": "whole"}


def test_lines_of_several_threads_and_processes_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "rejected.jsonl"
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=append_many, args=(path, "process", 10))]
    threads = [threading.Thread(target=append_many, args=(path, f"thread{n}", 10)) for n in "ab"]

    workers: list[Any] = [*processes, *threads]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(50)

    written = lines(path)
    assert len({line["message_id"] for line in written}) == len(written) == 30
    assert all(line["body"] == LONG_BODY for line in written)


def test_only_the_owner_may_read_what_messages_said(tmp_path: Path) -> None:
    path = tmp_path / "rejected.jsonl"

    RejectLog(path).append({}, "private")

    assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


def test_a_line_is_synced_before_the_call_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rejected.jsonl"
    sizes_at_sync: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda fd: sizes_at_sync.append(os.fstat(fd).st_size))

    RejectLog(path).append({}, "body")

    assert sizes_at_sync == [path.stat().st_size]


def test_a_line_that_cannot_be_written_keeps_the_message_in_the_queue(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the directory should be")

    with pytest.raises(QueueUnavailable, match=r"rejected\.jsonl"):
        RejectLog(tmp_path / "data" / "rejected.jsonl").append({}, "body")


def attributes_of(rejected: Rejected | None = None, **overrides: Any) -> dict[str, str]:
    rejected = rejected or Rejected("validate", "json_invalid", "Expecting value")
    return rejection_attributes(message(**overrides), rejected, "products")


def test_a_copy_tells_where_its_message_came_from_and_why() -> None:
    sent_at = datetime(2026, 11, 21, 14, 30, 9, 7000, tzinfo=UTC)

    assert attributes_of(message_id="m-1", sent_at=sent_at, receive_count=3) == {
        "reason": "json_invalid",
        "stage": "validate",
        "detail": "Expecting value",
        "message_id": "m-1",
        "original_version": "1795271409007000",
        "first_sent": "2026-11-21T14:30:09.007000Z",
        "receive_count": "3",
        "source_queue": "products",
    }


def test_a_redriven_message_hands_on_its_first_version_and_sent_time() -> None:
    carried = {"original_version": "1700000000000000", "first_sent": "2023-11-14T22:13:20Z"}

    attributes = attributes_of(attributes=carried | {"message_id": "before"}, message_id="now")

    assert attributes["original_version"] == "1700000000000000"
    assert attributes["first_sent"] == "2023-11-14T22:13:20Z"
    assert attributes["message_id"] == "now"


@pytest.mark.parametrize(
    "nonsense", ["", "soon", "-1", "1e9", "٣", "9" * 30, "0001-01-01T00:00+14"]
)
def test_carried_nonsense_is_replaced_by_the_sent_time(nonsense: str) -> None:
    carried = {"original_version": nonsense, "first_sent": nonsense}

    assert attributes_of(attributes=carried) | {"message_id": ""} == attributes_of() | {
        "message_id": ""
    }


@given(reason=st.text(), stage=st.text(), detail=st.text(max_size=3000))
def test_every_attribute_is_sendable(reason: str, stage: str, detail: str) -> None:
    attributes = attributes_of(Rejected(stage, reason, detail))

    for value in attributes.values():
        assert 0 < len(value) <= 1000
        assert all(is_allowed(character) for character in value)


def is_allowed(character: str) -> bool:
    point = ord(character)
    return character in "\t\n\r" or (
        point >= 0x20 and not 0xD800 <= point <= 0xDFFF and point not in (0xFFFE, 0xFFFF)
    )
