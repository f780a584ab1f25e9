import os
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_consumer.streams.anomaly import state_files
from product_consumer.streams.anomaly.state import State, StateUnusable, encode
from product_consumer.streams.anomaly.state_files import StateFiles, file_name


def state(seen: int = 1, queue: str = "q") -> State:
    return State(queue, "relation", (), ("a",), seen, False, {"scores": np.zeros(2)})


@pytest.fixture
def files(tmp_path: Path) -> Iterator[StateFiles]:
    with closing(StateFiles(tmp_path / "data", "q")) as opened:
        opened.open()
        yield opened


def taken(files: StateFiles) -> list[int]:
    """What a file says that was read, if any."""
    seen: list[int] = []
    files.read(lambda read: seen.append(read.seen))
    return seen


def age(path: Path, seconds: int) -> None:
    moment = path.stat().st_mtime - seconds
    os.utime(path, (moment, moment))


@pytest.mark.parametrize("queue", ["sensors", "A_b-9.c", "x" * 100, "..", "-"])
def test_a_plain_name_stays_as_it_is(queue: str) -> None:
    assert file_name(queue) == f"anomaly-{queue}.state"


@pytest.mark.parametrize(
    "queue",
    ["../../etc/passwd", "/", "", "a\x00b", "a\nb", "é" * 120, "x" * 101, "C:\\x", "\ud800"],
)
def test_any_other_name_is_made_safe(queue: str) -> None:
    name = file_name(queue)
    assert re.fullmatch(r"anomaly-[A-Za-z0-9_.-]+\.state", name)
    assert len(name) <= 130


@given(st.lists(st.text(max_size=4), unique=True, max_size=6))
def test_two_queues_never_share_a_file(queues: list[str]) -> None:
    # Another queue may have the very name that a file got.
    cleaned = {file_name(queue)[len("anomaly-") : -len(".state")] for queue in queues}
    every = {*queues, *cleaned}
    assert len({file_name(queue) for queue in every}) == len(every)


def test_a_state_is_written_whole_and_read_again(files: StateFiles, tmp_path: Path) -> None:
    files.write(state(5))
    files.write(state(7))
    assert taken(files) == [7]
    assert {path.name for path in (tmp_path / "data").iterdir()} == {
        "anomaly-q.state",
        "anomaly-q.state.lock",
    }
    assert (tmp_path / "data" / "anomaly-q.state").stat().st_mode & 0o077 == 0


def test_a_second_process_has_a_file_of_its_own_and_begins_with_the_newest(
    files: StateFiles, tmp_path: Path
) -> None:
    files.write(state(5))
    with closing(StateFiles(tmp_path / "data", "q")) as second:
        second.open()
        assert taken(second) == [5]
        second.write(state(9))
        assert second.path != files.path
        age(tmp_path / "data" / "anomaly-q.state", 60)
        assert taken(files) == [9]
        files.write(state(6))
        assert taken(second) == [6]


def test_a_place_is_free_again_once_its_process_ends(files: StateFiles, tmp_path: Path) -> None:
    files.close()
    with closing(StateFiles(tmp_path / "data", "q")) as second:
        second.open()
        assert second.path == tmp_path / "data" / "anomaly-q.state"


@pytest.mark.parametrize(
    "content", [b"", b"not a state", encode(state(queue="another")), encode(state())[:-30]]
)
def test_a_file_that_cannot_be_used_is_told_and_moved_aside(
    files: StateFiles, tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "data" / "anomaly-q.state").write_bytes(content)
    assert taken(files) == []
    (line,) = caplog.messages
    assert line.startswith("anomaly-q.state is not used: it ")
    assert line.endswith("it is anomaly-q.state.unusable now")
    assert (tmp_path / "data" / "anomaly-q.state.unusable").read_bytes() == content
    files.write(state(3))
    assert taken(files) == [3]


def test_the_next_newest_is_read_where_the_newest_cannot_be_used(
    files: StateFiles, tmp_path: Path
) -> None:
    files.write(state(5))
    other = tmp_path / "data" / "anomaly-q.state.2"
    other.write_bytes(b"damaged")
    age(tmp_path / "data" / "anomaly-q.state", 60)
    assert taken(files) == [5]
    assert other.exists()


def test_a_state_that_the_detector_refuses_is_moved_aside(
    files: StateFiles, tmp_path: Path
) -> None:
    files.write(state(5))

    def refuse(_: State) -> None:
        raise StateUnusable("another detector learnt it")

    assert not files.read(refuse)
    assert (tmp_path / "data" / "anomaly-q.state.unusable").exists()


def test_a_file_that_is_too_large_is_not_read(
    files: StateFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write(state(5))
    monkeypatch.setattr(state_files, "MAX_STATE_BYTES", 10)
    assert taken(files) == []


def test_a_write_that_fails_leaves_the_file_as_it_was(
    files: StateFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write(state(5))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write(state(6))
    assert taken(files) == [5]
