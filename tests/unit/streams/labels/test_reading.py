"""The file of labels: what is no list of labels stops the start and names the option."""

import json
from pathlib import Path

import pytest

from product_consumer.errors import ConfigurationError
from product_consumer.streams.labels.reading import MAX_LABELS, LabelFile, read_labels


def read(directory: Path, content: str | bytes) -> LabelFile:
    path = directory / "labels"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_labels(path)


@pytest.mark.parametrize(
    "content", ["mug\nwater bottle\n", "mug\r\nwater bottle", "\ufeffmug\n water bottle \n\n\n"]
)
def test_each_line_is_a_label(tmp_path: Path, content: str) -> None:
    assert read(tmp_path, content).prompts == {"mug": [], "water bottle": []}


def test_json_gives_labels_prompts_of_their_own(tmp_path: Path) -> None:
    content = json.dumps({"mug": ["a mug", " a cup "], "chair": [], "hat": None})

    assert read(tmp_path, content).prompts == {"mug": ["a mug", "a cup"], "chair": [], "hat": []}


def test_the_digest_is_that_of_the_file(tmp_path: Path) -> None:
    assert read(tmp_path, "mug").digest != read(tmp_path, "cup").digest
    assert len(read(tmp_path, "mug").digest) == 64


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "has no label"),
        ("\n \n", "has no label"),
        ("{}", "has no label"),
        ("mug\n\nchair", "label 2 is empty"),
        ("mug\nchair\n mug", '"mug" twice'),
        ('{"mug": [], "mug": []}', '"mug" twice'),
        ('{"": []}', "label 1 is empty"),
        (b"mug\n\xff\n", "not UTF-8 at byte 4"),
        ("mug\nch\x00air", "U+0000"),
        ("\n".join(f"label {number}" for number in range(100_000)), f"at most {MAX_LABELS}"),
        ("x" * 9_000_000, "more than"),
        ("x" * 300, "characters"),
        ('{"mug": [', "none"),
        ('{"mug": "a mug"}', "needs a list"),
        ('{"mug": [1]}', "needs a list"),
        ('{"mug": {"a": "b"}}', "needs a list"),
        ('{"mug": [" "]}', "empty or too long"),
        ("{" * 100_000, "none"),
    ],
)
def test_what_is_no_list_of_labels_is_refused(
    tmp_path: Path, content: str | bytes, problem: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read(tmp_path, content)
    assert refused.value.setting == "--labels"
    assert problem in refused.value.problem


def test_a_file_that_is_missing_is_told_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        read_labels(tmp_path / "missing")
    with pytest.raises(ConfigurationError, match="directory"):
        read_labels(tmp_path)
