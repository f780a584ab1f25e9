"""What a command prints on terminals of any kind, and how it ends by an error."""

import io
import sys

import pytest

from product_consumer.cli.output import end_by, print_json
from product_consumer.errors import ConfigurationError, FatalError, StoreUnavailable


@pytest.mark.parametrize(
    ("encoding", "printed"),
    [("ascii", b'"s\\u1ed1"\n'), ("latin-1", b'"s\\u1ed1"\n'), ("utf-8", '"số"\n'.encode())],
)
def test_json_is_escaped_where_the_terminal_lacks_a_letter(
    monkeypatch: pytest.MonkeyPatch, encoding: str, printed: bytes
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding, write_through=True))
    print_json("số")

    assert written.getvalue() == printed


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigurationError("THREADS", "too many"), 78, "THREADS: too many"),
        (ImportError("no x"), 78, "Cannot start: the installation: no x"),
        (StoreUnavailable("milvus", "gone"), 1, "milvus is unavailable: gone"),
        (FatalError("the device is lost"), 70, "the device is lost"),
        (MemoryError(), 70, "Fatal: no more memory"),
        (RuntimeError("can't start new thread"), 70, "Fatal: no more threads"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_is_one_line_and_a_code(
    error: Exception, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        end_by(error)

    assert ended.value.code == code
    [printed] = capsys.readouterr().err.splitlines()
    assert printed.startswith(line)


def test_a_bug_of_ours_ends_with_70_and_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        end_by(ZeroDivisionError("a bug"))

    assert ended.value.code == 70
    assert "ZeroDivisionError: a bug" in capsys.readouterr().err
