"""The commands of data streams and the scripts of the same names: flags, defaults, exit codes."""

import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from product_consumer.cli import streams
from product_consumer.errors import ConfigurationError
from product_consumer.queues.rabbitmq.url import AmqpUrl
from product_consumer.runtime.exit_codes import EXIT_CONFIGURATION, EXIT_USAGE
from product_consumer.streams.collect import opening as collecting
from product_consumer.streams.produce import opening as producing
from tests.support.paths import REPOSITORY

SCRIPTS: dict[str, Callable[..., None]] = {
    "producer/stream_tabular_ingestion.py": streams.produce_tabular,
    "producer/stream_image_ingestion.py": streams.produce_images,
    "producer/stream_text_ingestion.py": streams.produce_texts,
    "consumer/tabular_consumer.py": streams.collect_tabular,
    "consumer/image_consumer.py": streams.collect_images,
    "consumer/text_consumer.py": streams.collect_texts,
}


class Left(Exception):
    """Raised in place of the end of the process."""


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What the last command was called with, by the names of its parameters."""
    call: dict[str, Any] = {}

    def stand_in(name: str) -> Callable[..., int]:
        def run(url: AmqpUrl, _settings: object, path: Any = None, **more: Any) -> int:
            call.update(more, name=name, url=url, path=path)
            return 0

        return run

    def end(code: int) -> None:
        raise Left(code)

    for module in (producing, collecting):
        for name in ("tabular", "images", "texts"):
            verb = "produce" if module is producing else "collect"
            monkeypatch.setattr(module, f"{verb}_{name}", stand_in(f"{verb} {name}"), raising=False)
    monkeypatch.setattr(producing, "delete_stream", stand_in("delete"))
    monkeypatch.setattr(streams, "leave", end)
    monkeypatch.chdir(tmp_path)
    return call


def run(command: Callable[..., None], *arguments: str) -> None:
    app = typer.Typer(add_completion=False)
    app.command()(command)
    with pytest.raises(Left):
        app(arguments, standalone_mode=False)


MATERIAL = REPOSITORY / "producer"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (
            streams.produce_tabular,
            {
                "name": "produce tabular",
                "queue": "alicpp_records",
                "path": MATERIAL / "tabular_data.csv",
                "number": 0,
                "interval_seconds": 2.0,
            },
        ),
        (
            streams.produce_images,
            {"name": "produce images", "queue": "image_queue", "path": MATERIAL / "images"},
        ),
        (
            streams.produce_texts,
            {
                "name": "produce texts",
                "queue": "text_queue",
                "path": MATERIAL / "texts",
                "per_file": False,
            },
        ),
        (
            streams.collect_tabular,
            {"name": "collect tabular", "queue": "alicpp_records", "path": None},
        ),
        (
            streams.collect_images,
            {"name": "collect images", "queue": "image_queue", "path": Path("received_images")},
        ),
        (
            streams.collect_texts,
            {"name": "collect texts", "queue": "text_queue", "path": Path("received_texts")},
        ),
    ],
)
def test_the_defaults_are_those_of_the_programs_in_the_field(
    called: dict[str, Any], command: Callable[..., None], expected: dict[str, Any]
) -> None:
    run(command)

    url = called["url"]
    found = called | {"queue": url.queue}
    assert {name: found[name] for name in expected} == expected
    [node] = url.nodes
    assert (node.host, node.port, node.user, node.password) == (
        *("localhost", 5672, "guest", "guest"),
    )


def test_every_flag_has_its_short_form(called: dict[str, Any]) -> None:
    run(
        streams.produce_tabular,
        *("-m", "setup", "-b", "rabbit:5673", "-q", "records", "-i", "0.5", "-n", "7"),
        *("-u", "me", "-p", "secret", "--file", "rows.csv"),
    )

    [node] = called["url"].nodes
    assert (node.address, node.user, node.password) == ("rabbit:5673", "me", "secret")
    assert (called["url"].queue, called["path"]) == ("records", Path("rows.csv"))
    assert (called["number"], called["interval_seconds"]) == (7, 0.5)


def test_a_teardown_only_deletes(called: dict[str, Any]) -> None:
    run(streams.produce_tabular, "--mode", "teardown")

    assert called["name"] == "delete"


def test_a_directory_of_the_usual_name_here_comes_first(
    called: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    run(streams.produce_images)

    assert called["path"] == Path("images")


def test_a_server_may_be_a_whole_url(called: dict[str, Any]) -> None:
    url = "amqps://me:secret@rabbit/vhost?heartbeat=30"
    run(streams.collect_texts, "-b", url, "-q", "words", "-o", "here")

    [node] = called["url"].nodes
    assert (node.address, node.vhost, node.is_tls) == ("rabbit:5671", "vhost", True)
    assert (called["url"].queue, called["path"]) == ("words", Path("here"))


def test_a_password_in_the_settings_is_in_no_process_list(
    called: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RABBITMQ_SERVER", "amqp://me:secret@rabbit/vhost")
    run(streams.collect_images)
    [node] = called["url"].nodes
    assert (node.address, node.user, node.password) == ("rabbit:5672", "me", "secret")

    run(streams.collect_images, "-b", "other")
    assert called["url"].nodes[0].address == "other:5672"

    monkeypatch.setenv("RABBITMQ_SERVER", "amqp://me:secret@rabbit/?colour=red")
    app = typer.Typer(add_completion=False)
    app.command()(streams.collect_images)
    with pytest.raises(ConfigurationError, match=r"^RABBITMQ_SERVER: ") as raised:
        app([], standalone_mode=False)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_is_the_command_of_its_name(script: str) -> None:
    names = runpy.run_path(str(REPOSITORY / script))

    assert SCRIPTS[script] in names.values()


@pytest.mark.parametrize(
    "script", ["producer/stream_text_ingestion.py", "consumer/text_consumer.py"]
)
def test_a_script_runs_from_any_directory_and_never_shows_a_password(
    script: str, tmp_path: Path
) -> None:
    server = "amqp://me:secret@rabbit/?colour=red"
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / script), "-b", server],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )

    assert done.returncode == EXIT_CONFIGURATION
    assert done.stderr.startswith("--rabbitmq_server: has a parameter that is none of queue")
    assert len(done.stderr.splitlines()) == 1
    assert "secret" not in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [("-i", "-1"), ("-i", "nan"), ("-i", "inf"), ("-n", "-1"), ("-m", "start")]
)
def test_a_number_that_makes_no_sense_is_wrong_usage(arguments: tuple[str, ...]) -> None:
    app = typer.Typer(add_completion=False)
    app.command()(streams.produce_tabular)
    with pytest.raises(SystemExit) as raised:
        app(arguments)

    assert raised.value.code == EXIT_USAGE
