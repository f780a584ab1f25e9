"""How the errors that may end a process become its exit code."""

from pathlib import Path

import pytest

from product_consumer.errors import ConfigurationError, FatalError
from product_consumer.pipeline.backoff import Stopped
from product_consumer.runtime.exit_codes import UsageError, exit_code_of_errors


@pytest.mark.parametrize(
    ("error", "code", "printed"),
    [
        (Stopped(), 0, ""),
        (UsageError("Nothing to consume"), 2, "Nothing to consume\n"),
        (ConfigurationError("THREADS", "too many"), 78, "Cannot start: THREADS: too many\n"),
        (FatalError("the device is lost"), 70, None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_becomes_a_code_and_a_message(
    error: Exception, code: int, printed: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    with exit_code_of_errors() as ending:
        fail()

    assert ending.code == code
    if printed is not None:
        assert capsys.readouterr().err == printed


def test_a_code_that_was_set_stays() -> None:
    with exit_code_of_errors() as ending:
        ending.code = 7

    assert ending.code == 7


def test_a_bug_of_ours_is_fatal_and_told_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with exit_code_of_errors() as ending:
        fail()

    assert ending.code == 70
    assert "in fail" in caplog.text


def test_the_end_of_the_interpreter_passes() -> None:
    with pytest.raises(SystemExit), exit_code_of_errors():
        raise SystemExit(2)


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (ImportError("No module named 'x'"), 78, "No module named 'x'"),
        (RuntimeError("can't start new thread"), 70, "no more threads"),
        (OSError(24, "Too many open files"), 70, "no more open files"),
        (MemoryError(), 70, "no more memory"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_the_machine_lacks_is_told_in_one_line(
    error: Exception,
    code: int,
    told: str,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise error

    with exit_code_of_errors() as ending:
        fail()

    assert ending.code == code
    assert told in caplog.text + capsys.readouterr().err
    assert "Traceback" not in caplog.text


def test_a_path_that_a_library_cannot_use_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/proc/x")

    with exit_code_of_errors() as ending:
        Path("/proc/x/cache").mkdir()

    assert ending.code == 78
    assert capsys.readouterr().err == (
        "Cannot start: TORCHINDUCTOR_CACHE_DIR: /proc/x/cache: No such file or directory\n"
    )


def test_a_path_that_no_variable_names_is_a_bug_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    with exit_code_of_errors() as ending:
        Path("/proc/no/such").read_text()

    assert ending.code == 70
    assert "Traceback" in caplog.text
