"""Pictures and texts become files; a message is done once its file and its name are on disk."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from product_consumer.models import Envelope, Message
from product_consumer.outcomes import Outcome, Rejected, Released, Stored
from product_consumer.pipeline.context import ProcessContext, new_context
from product_consumer.queues.in_flight import InFlightTracker
from product_consumer.queues.memory import InMemoryQueue
from product_consumer.streams.collect.directory import OutputDirectory
from product_consumer.streams.collect.files import FilePipeline
from product_consumer.streams.collect.naming import Naming, PictureNaming, TextNaming
from tests.support import factories
from tests.support.metrics import samples

PNG = b"\x89PNG\r\n\x1a\n"


class Rig:
    """A pipeline over a directory of its own."""

    def __init__(self, path: Path, naming: Naming) -> None:
        self.path = path
        self.directory = OutputDirectory(path, "--output_directory")
        self.context: ProcessContext = new_context()
        self.in_flight = InFlightTracker(InMemoryQueue(), 30)
        self.saved: list[tuple[int, int]] = []
        self.pipeline = FilePipeline(
            naming,
            self.directory,
            self.in_flight,
            self.context,
            max_attempts=3,
            on_saved=lambda new, there: self.saved.append((new, there)),
        )

    def process(self, *messages: Message) -> Sequence[Outcome]:
        with self.in_flight.track(messages):
            return self.pipeline.process(messages)

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.path.iterdir()}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Callable[[Naming], Rig]]:
    rigs: list[Rig] = []

    def make(naming: Naming) -> Rig:
        rigs.append(Rig(tmp_path / "received", naming))
        return rigs[-1]

    yield make
    for made in rigs:
        made.directory.close()


def message(body: str | bytes, **envelope: Any) -> Message:
    return factories.message(body, envelope=Envelope(**envelope))


def test_a_batch_of_pictures_is_saved(rig: Callable[[Naming], Rig]) -> None:
    pictures = rig(PictureNaming())
    outcomes = pictures.process(
        message(PNG + b"1", message_id="a"),
        message(PNG + b"2", headers={"filename": "../b.png"}),
        message("no picture", message_id="c"),
    )

    assert outcomes == [Stored("image_a.png"), Stored("b.png"), Stored("image_c.bin")]
    assert pictures.files() == {
        "image_a.png": PNG + b"1",
        "b.png": PNG + b"2",
        "image_c.bin": b"no picture",
    }


def test_a_second_delivery_changes_nothing_and_is_counted(rig: Callable[[Naming], Rig]) -> None:
    pictures = rig(PictureNaming())
    for _ in range(2):
        pictures.process(message(PNG, message_id="a"))

    assert pictures.files() == {"image_a.png": PNG}
    assert pictures.saved == [(1, 0), (0, 1)]
    flag = ("product_message_flags_total", ("already_there",))
    assert samples(pictures.context.metrics)[flag] == 1


def test_two_pictures_of_one_name_are_both_there(rig: Callable[[Naming], Rig]) -> None:
    pictures = rig(PictureNaming())
    pictures.process(
        *(message(PNG + bytes([number]), headers={"filename": "a.png"}) for number in (1, 2, 1))
    )

    assert sorted(pictures.files().values()) == [PNG + b"\1", PNG + b"\2"]


def test_words_without_ids_are_numbered_in_their_order(rig: Callable[[Naming], Rig]) -> None:
    texts = rig(TextNaming(["word_2.txt"]))
    texts.process(*map(message, ["to", "be", "to"]))

    assert texts.files() == {"word_3.txt": b"to", "word_4.txt": b"be", "word_5.txt": b"to"}


def test_what_is_not_text_is_rejected_and_spares_the_others(rig: Callable[[Naming], Rig]) -> None:
    texts = rig(TextNaming([]))
    outcomes = texts.process(message(b"caf\xe9"), message("café"))

    assert isinstance(outcomes[0], Rejected)
    assert outcomes[0].reason == "encoding"
    assert texts.files() == {"word_1.txt": "café".encode()}


def test_a_message_that_was_delivered_again_is_left_to_its_next_delivery(
    rig: Callable[[Naming], Rig],
) -> None:
    texts = rig(TextNaming([]))

    [outcome] = texts.pipeline.process([message("lost")])

    assert isinstance(outcome, Released)
    assert texts.files() == {}


def test_no_message_is_done_before_the_names_are_on_disk(
    rig: Callable[[Naming], Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = rig(PictureNaming())
    pictures.context.stopping.set()

    def refuse(_: int) -> None:
        raise OSError(5, "Input/output error")

    real, calls = os.fsync, []

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        (refuse if descriptor == pictures.directory._descriptor else real)(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    [outcome] = pictures.process(message(PNG, message_id="a"))

    assert isinstance(outcome, Released)
    assert "Input/output error" in outcome.reason
    assert pictures.saved == []
