"""The helpers that start servers, tested with small Python programs."""

import contextlib
import os
import sys
from pathlib import Path

import pytest

from tests import conftest
from tests.support import backends

SERVER = """
import sys
from http.server import HTTPServer, SimpleHTTPRequestHandler
HTTPServer(("127.0.0.1", int(sys.argv[1])), SimpleHTTPRequestHandler).serve_forever()
"""


def start(program: str) -> backends.Backend:
    return backends._start(
        "http",
        lambda port, _: [sys.executable, "-c", program, str(port)],
        backends._responds("/"),
    )


def is_running(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_server_ends_with_its_whole_group_even_when_the_test_failed() -> None:
    with contextlib.suppress(RuntimeError), start(SERVER) as backend:
        raise RuntimeError("the test failed")
    assert not is_running(backend.process.pid)


def test_a_paused_server_can_be_stopped() -> None:
    with start(SERVER) as backend:
        backend.pause()
    assert not is_running(backend.process.pid)


def test_a_server_that_cannot_start_shows_the_end_of_its_log() -> None:
    with pytest.raises(backends.StartFailed, match="no room left"):
        start("import sys; sys.exit('no room left')")


def must_not_start() -> backends.Backend:
    raise AssertionError("one is running already")


def test_a_server_named_in_the_environment_is_used_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TEST_SOMETHING", "http://127.0.0.1:9")
    assert list(conftest.running_server("TEST_SOMETHING", must_not_start)) == ["http://127.0.0.1:9"]


def test_every_start_script_is_executable() -> None:
    scripts = sorted(Path(backends.SERVERS).glob("start-*"))
    assert [script.name for script in scripts] == [
        "start-elasticmq",
        "start-elasticsearch",
        "start-rabbitmq",
        "start-toxiproxy",
    ]
    assert all(os.access(script, os.X_OK) for script in scripts)
