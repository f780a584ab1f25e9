"""Embeddings of labels: means of their prompts, kept, and made again when the file is no good."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from product_consumer.embedding.embedder import Embedder
from product_consumer.errors import ConfigurationError, EmbeddingRejected
from product_consumer.pipeline.backoff import Stopped
from product_consumer.streams.labels.embedding import CHUNK, label_embeddings
from product_consumer.streams.labels.prompts import Templates, prompts_of
from product_consumer.streams.labels.reading import LabelFile

SIMPLE = Templates.SIMPLE


class CountingEmbedder:
    """Embeds a text by its length and its first letter, and counts."""

    model_id = "model/1"
    dimension = 3

    def __init__(self) -> None:
        self.texts: list[str] = []

    def tokenise(self, text: str) -> str:
        return text

    def prepare(self, _pixels: None, tokens: str) -> str:
        return tokens

    def embed_sides(self, items: list[str]) -> list[Any]:
        assert len(items) <= CHUNK
        self.texts += items
        return [self._embed(item) for item in items]

    def _embed(self, text: str) -> Any:
        if "broken" in text:
            return EmbeddingRejected("embedding_invalid")
        stem = text.removeprefix("-")
        vector = np.array([len(stem), ord(stem[0]), 10]) * (-1 if text.startswith("-") else 1)
        return SimpleNamespace(text=(vector / np.linalg.norm(vector)).astype(np.float32))


def labels(**prompts: list[str]) -> LabelFile:
    return LabelFile(prompts, "d" * 64)


def embed(
    directory: Path,
    file: LabelFile,
    embedder: CountingEmbedder,
    stopping: threading.Event | None = None,
) -> Any:
    real = cast(Embedder, embedder)
    return label_embeddings(file, SIMPLE, real, directory, stopping or threading.Event())


def test_a_label_without_prompts_takes_those_of_open_clip() -> None:
    assert len(prompts_of("mug", [], Templates.SIMPLE)) == 7
    assert len(prompts_of("mug", [], Templates.OPENAI)) == 80
    assert "itap of a mug." in prompts_of("mug", [], Templates.SIMPLE)
    assert prompts_of("mug", ["a mug"], Templates.OPENAI) == ["a mug"]


def test_a_label_is_the_normalised_mean_of_its_prompts(tmp_path: Path) -> None:
    embedder = CountingEmbedder()

    rows = embed(tmp_path, labels(mug=["a", "bcd"], chair=["x"]), embedder)

    parts = [answer.text for answer in embedder.embed_sides(["a", "bcd"])]
    mean = (parts[0] + parts[1]) / 2
    assert rows.shape == (2, 3)
    assert rows[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)
    assert np.linalg.norm(rows, axis=1) == pytest.approx([1, 1], abs=1e-6)


def test_labels_are_embedded_once_for_all_starts(tmp_path: Path) -> None:
    first, second = CountingEmbedder(), CountingEmbedder()

    made = embed(tmp_path / "kept", labels(mug=[], chair=[]), first)
    known = embed(tmp_path / "kept", labels(mug=[], chair=[]), second)

    assert len(first.texts) == 14
    assert second.texts == []
    assert np.array_equal(made, known)


@pytest.mark.parametrize("change", ["model", "file", "dimension"])
def test_what_was_kept_of_something_else_is_not_used(tmp_path: Path, change: str) -> None:
    embed(tmp_path, labels(mug=[]), CountingEmbedder())
    other = CountingEmbedder()
    if change == "model":
        other.model_id = "model/2"
    if change == "dimension":
        other.dimension = 4
    file = LabelFile({"mug": []}, "e" * 64) if change == "file" else labels(mug=[])

    embed(tmp_path, file, other)

    assert other.texts


@pytest.mark.parametrize("damage", ["cut", "changed", "text", "empty"])
def test_a_damaged_file_is_made_again(tmp_path: Path, damage: str) -> None:
    made = embed(tmp_path, labels(mug=[]), CountingEmbedder())
    [path] = tmp_path.iterdir()
    content = path.read_bytes()
    changed = bytearray(content)
    changed[-1] ^= 1
    damaged = {"cut": content[:-4], "changed": bytes(changed), "text": b"no", "empty": b""}
    path.write_bytes(damaged[damage])
    again = CountingEmbedder()

    assert np.array_equal(embed(tmp_path, labels(mug=[]), again), made)
    assert again.texts
    once_more = CountingEmbedder()
    assert np.array_equal(embed(tmp_path, labels(mug=[]), once_more), made)
    assert once_more.texts == []


def test_a_directory_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file", encoding="utf-8")

    assert embed(taken, labels(mug=[]), CountingEmbedder()).shape == (1, 3)


def test_a_stop_ends_the_embedding(tmp_path: Path) -> None:
    stopping = threading.Event()
    stopping.set()

    with pytest.raises(Stopped):
        embed(tmp_path, labels(mug=[]), CountingEmbedder(), stopping)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("prompts", [["broken"], ["here", "-here"]])
def test_a_label_that_has_no_embedding_is_refused(tmp_path: Path, prompts: list[str]) -> None:
    embedder = CountingEmbedder()
    with pytest.raises(ConfigurationError) as refused:
        embed(tmp_path, labels(mug=prompts), embedder)
    assert refused.value.setting == "--labels"
