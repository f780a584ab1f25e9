"""Lines of records: whole in their file, whatever happened to the line before."""

import errno
import os
import sys
from pathlib import Path

import pytest

from product_consumer.errors import ConfigurationError, FatalError, Unavailable
from product_consumer.streams.collect.lines import FileOfLines, StandardOutput


def test_lines_are_appended_and_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "records.jsonl"
    lines = FileOfLines(path, "--output")
    flushed: list[bytes] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        real(descriptor)
        flushed.append(path.read_bytes())

    monkeypatch.setattr(os, "fsync", fsync)
    lines.write(["{}", '{"a": "é"}'])
    lines.write(["{}"])

    assert path.read_text("utf-8") == '{}\n{"a": "é"}\n{}\n'
    assert flushed[-1] == path.read_bytes()


def test_half_a_line_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text('{"whole": 1}\n{"ha')

    FileOfLines(path, "--output").write(["{}"])

    assert path.read_text() == '{"whole": 1}\n{"ha\n{}\n'


def test_lines_that_do_not_fit_leave_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "records.jsonl"
    lines = FileOfLines(path, "--output")
    lines.write(["{}"])
    written: list[int] = []
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        if written:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(real(descriptor, data[:3]))
        return 3

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(Unavailable, match="No space left"):
        lines.write(['{"a": 1}'])

    assert path.read_text() == "{}\n"


def test_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    lines = FileOfLines(path, "--output")
    lines.write(["1"])
    path.rename(tmp_path / "old")
    lines.write(["2"])

    assert path.read_text() == "2\n"


def test_a_probe_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    FileOfLines(path, "--output").probe()

    assert [(file.name, file.stat().st_size) for file in tmp_path.iterdir()] == [
        ("records.jsonl", 0)
    ]


@pytest.mark.parametrize("name", ["", "missing/records.jsonl", "a\0b", "x" * 300])
def test_a_path_that_cannot_be_used_names_its_option(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^--output: "):
        FileOfLines(tmp_path / name, "--output")


def test_a_fifo_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigurationError, match="needs a regular file"):
        FileOfLines(tmp_path / "fifo", "--output")


def test_lines_are_printed_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    StandardOutput().write(["1", "2"])

    assert capsys.readouterr().out == "1\n2\n"


def test_an_output_that_nobody_reads_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        with pytest.raises(FatalError, match="nobody reads"):
            StandardOutput().write(["1"])
        # What is left in its buffer must not fail again when it is closed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)
