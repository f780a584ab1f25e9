"""The history outlives the processes that write it."""

from pathlib import Path

from tests.faults.harness.recording import History, read_history


def test_a_line_that_a_kill_cut_off_hides_no_other(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    History(path).add("before")
    with path.open("ab") as file:
        file.write(b'{"at": 1.0, "proc')
    History(path).add("after")

    assert [event.kind for event in read_history(path)] == ["before", "after"]
