"""The suite on a machine without the programs that tests need."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import backends, tools
from tests.support.paths import REPOSITORY

STARTS = {name: start for name, start in vars(backends).items() if name.startswith("start_")}

# Four ways to use a program, and a test that needs none: on a developer's machine, and in CI.
REACHING = """
import subprocess
import pytest
from tests.support import backends

@pytest.fixture(scope="session", params=["developer", "CI"], autouse=True)
def machine(request):
    with pytest.MonkeyPatch.context() as environment:
        if request.param == "CI":
            environment.setenv("CI", "true")
        yield

@pytest.fixture
def own_redis():
    with backends.start_redis() as server:
        yield server

def test_by_a_shared_fixture(redis_url): ...

def test_by_a_fixture_of_its_own(own_redis): ...

def test_by_a_helper():
    backends.start_redis()

def test_by_its_name():
    subprocess.run(["promtool", "--version"])

def test_of_something_else(): ...
"""


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No program on ``PATH``, nor in any other directory where servers are searched."""
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    monkeypatch.setenv("PATH", str(nothing))
    monkeypatch.setattr(backends, "GO_PROGRAMS", nothing)
    monkeypatch.setattr(backends, "POSTGRES_VERSIONS", nothing)
    monkeypatch.setattr(backends, "RABBITMQ_PROGRAM", nothing / "rabbitmq-server")
    # Milvus Lite is looked for beside it.
    monkeypatch.setattr(sys, "executable", str(nothing / "python"))


def run_pytest(empty_path: Path, *arguments: str) -> tuple[int, str]:
    """Run pytest without any program on ``PATH``; return its exit status and what it printed."""
    inherited = {name: value for name, value in os.environ.items() if name != "CI"}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-c",
            "pyproject.toml",
            "-p",
            "no:cacheprovider",
            *arguments,
        ],
        cwd=REPOSITORY,
        env=inherited | {"PATH": str(empty_path)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_all_tests_are_collected_on_a_machine_without_any_program(tmp_path: Path) -> None:
    status, output = run_pytest(tmp_path, "--collect-only")
    assert (status, re.findall(r"\d+ errors?", output)) == (0, [])


@pytest.mark.usefixtures("bare_machine")
@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_a_server_whose_programs_are_missing_says_which(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    arguments: list[Any] = [tmp_path] if start is backends.start_nginx else []
    if start is backends.start_pgbouncer:
        arguments = ["postgresql://127.0.0.1:1/postgres"]
    with pytest.raises(tools.MissingTool, match=r"^not installed: \w+"):
        start(*arguments)


def test_a_test_is_skipped_or_fails_in_ci_whichever_way_it_reaches_for_a_missing_program(
    tmp_path: Path,
) -> None:
    empty_path = tmp_path / "nothing"
    empty_path.mkdir()
    reaching = tmp_path / "test_reaching.py"
    reaching.write_text(REACHING)
    status, output = run_pytest(empty_path, "-p", "tests.conftest", str(reaching))
    assert status == 1
    assert "2 failed, 2 passed, 4 skipped, 2 errors" in output
    assert "CI must not skip: not installed: promtool" in output
    assert re.search(r"SKIPPED .* not installed: redis-server", output)
    assert re.search(r"SKIPPED .* not installed: promtool", output)


@pytest.mark.usefixtures("bare_machine")
def test_another_version_of_rabbitmq_needs_what_lays_it_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RABBITMQ_SUITE", "trixie")
    with pytest.raises(tools.MissingTool, match="mmdebstrap"):
        backends.require_rabbitmq()


def test_a_missing_tool_is_named() -> None:
    with pytest.raises(tools.MissingTool, match=r"no-such-program \(for a test\)"):
        tools.require("no-such-program", hint="for a test")


def test_a_program_that_is_there_is_not_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "program").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    tools.require("program")


def without_java() -> None:
    with tools.skipping_without_tools():
        raise tools.MissingTool("not installed: java")


def test_a_missing_server_skips_with_the_reason_on_a_developers_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="java"):
        without_java()


def test_a_missing_server_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="java"):
        without_java()


def read_nothing(directory: Path) -> None:
    (directory / "nothing").read_text()


def start_nothing(directory: Path) -> None:
    subprocess.run([directory / "nothing"])


@pytest.mark.parametrize("act", [read_nothing, start_nothing])
def test_a_file_that_is_missing_is_no_missing_program(
    act: Callable[[Path], None], tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError), tools.skipping_without_tools():
        act(tmp_path)
