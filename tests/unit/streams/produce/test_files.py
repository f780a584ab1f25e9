"""Files of a directory as messages: pictures, words and whole texts, under ids that stay."""

from pathlib import Path
from threading import Event

import pytest

from product_consumer.errors import ConfigurationError
from product_consumer.queues.base import Outgoing
from product_consumer.streams.produce import files
from product_consumer.streams.produce.files import Directory, Kind, picture, whole_text, words
from tests.support import factories


def sent(path: Path, kind: Kind) -> list[Outgoing]:
    return list(Directory(path, "--directory").messages(kind, Event()))


def test_a_picture_is_sent_byte_for_byte_with_what_is_known_of_it(tmp_path: Path) -> None:
    data = factories.jpeg_bytes(size=(64, 48))
    (tmp_path / "photo.jpg").write_bytes(data)
    [message] = sent(tmp_path, picture)

    envelope = message.envelope
    assert message.body == data
    assert envelope.content_type == "image/jpeg"
    assert envelope.headers == {"filename": "photo.jpg", "image_size": [48, 64, 3]}
    assert envelope.correlation_id == envelope.message_id != ""


@pytest.mark.parametrize("data", [b"", b"a text", b"\xff\xd8\xff broken"])
def test_what_pillow_cannot_open_is_sent_without_a_size(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "photo.jpg").write_bytes(data)
    [message] = sent(tmp_path, picture)

    assert message.body == data
    assert "image_size" not in message.envelope.headers


def test_a_text_is_one_message_per_word(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("later", "utf-8")
    (tmp_path / "a.txt").write_text("\ufeffto be\tor\nnot\u00a0to  café\n", "utf-8")
    messages = sent(tmp_path, words)

    assert [message.body for message in messages] == [
        *("to", "be", "or", "not", "to", "café"),
        "later",
    ]
    assert [message.envelope.headers for message in messages[4:]] == [
        {"filename": "a.txt", "word": 5},
        {"filename": "a.txt", "word": 6},
        {"filename": "b.txt", "word": 1},
    ]
    assert len({message.envelope.message_id for message in messages}) == 7


def test_a_whole_text_is_sent_byte_for_byte(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"to be\r\n")
    [message] = sent(tmp_path, whole_text)

    assert message.body == b"to be\r\n"
    assert message.envelope.headers == {"filename": "a.txt"}


@pytest.mark.parametrize("kind", [picture, words, whole_text])
def test_the_same_files_give_the_same_ids(tmp_path: Path, kind: Kind) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text("the the")
    first, again = (sent(tmp_path, kind) for _ in range(2))
    ids = [message.envelope.message_id for message in first]

    assert [message.envelope.message_id for message in again] == ids
    assert len(set(ids)) == len(ids)


def test_other_bytes_under_the_same_name_have_another_id(tmp_path: Path) -> None:
    ids = set()
    for data in (b"1", b"2"):
        (tmp_path / "a.jpg").write_bytes(data)
        ids.add(sent(tmp_path, picture)[0].envelope.message_id)

    assert len(ids) == 2


def test_only_regular_files_are_sent_and_links_to_them(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")

    assert [message.envelope.headers["filename"] for message in sent(tmp_path, words)] == [
        *("a", "link"),
    ]


def test_what_cannot_be_sent_is_told_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 10)
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    (tmp_path / "b.txt").write_bytes(b"x" * 11)
    (tmp_path / "c.txt").write_bytes(b"fine")
    directory = Directory(tmp_path, "--directory")

    assert [message.body for message in directory.messages(words, Event())] == ["fine"]
    assert directory.left_out == 2
    assert "a.txt: not UTF-8 at byte 3" in caplog.text
    assert "b.txt: more than 10 bytes" in caplog.text


def test_a_loop_begins_again_until_stopped(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("to be")
    stopping = Event()
    bodies = []
    for message in Directory(tmp_path, "--directory").messages(words, stopping, loop=True):
        bodies.append(message.body)
        if len(bodies) == 5:
            stopping.set()

    assert bodies == ["to", "be", "to", "be", "to", "be"]


def test_a_loop_over_nothing_waits_and_ends_with_a_stop(tmp_path: Path) -> None:
    class Stops(Event):
        waits = 0

        def wait(self, timeout: float | None = None) -> bool:
            self.waits += 1
            if self.waits == 3:
                self.set()
            return self.is_set()

    stopping = Stops()

    assert list(Directory(tmp_path, "-").messages(words, stopping, loop=True)) == []
    assert stopping.waits == 3


@pytest.mark.parametrize("name", ["missing", "a file", "a\0b"])
def test_what_is_no_directory_names_its_option(tmp_path: Path, name: str) -> None:
    (tmp_path / "a file").write_text("")
    with pytest.raises(ConfigurationError, match=r"^--directory: "):
        Directory(tmp_path / name, "--directory")
