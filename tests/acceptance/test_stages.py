"""A stage and its client as operators and users start them, on a real server."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from product_consumer.demo import tiny_model
from tests.support import factories
from tests.support.paths import REPOSITORY
from tests.support.rabbitmq import RabbitClient

WAIT_SECONDS = 60.0


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    settings = tiny_model.settings(tmp_path / "model")
    return {
        **os.environ,
        **{name.upper(): str(value) for name, value in settings.items()},
        "DATA_DIR": str(tmp_path / "data"),
        "DEVICE": "cpu",
        "PYTHONPATH": str(REPOSITORY),
    }


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "product_consumer", *arguments]


@pytest.fixture
def stage(
    rabbitmq: RabbitClient, environment: Mapping[str, str], tmp_path: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    """The stage ``classify``, which reads the queue of the file ``queue``."""
    labels = tmp_path / "labels.txt"
    labels.write_text("mug\nchair\n", encoding="utf-8")
    queue, results = rabbitmq.name("pictures"), rabbitmq.name("results")
    (tmp_path / "queue").write_text(queue, encoding="utf-8")
    options = ["--in", queue, "--results", results, "--labels", str(labels)]
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(
            command("stage", "classify", *options, "-b", rabbitmq.server.url()),
            env=dict(environment),
            cwd=tmp_path,
            stdout=log,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        yield process
        process.kill()


def test_a_client_is_answered_until_the_stage_is_stopped(
    rabbitmq: RabbitClient,
    stage: "subprocess.Popen[bytes]",
    environment: Mapping[str, str],
    tmp_path: Path,
) -> None:
    def request(name: str, content: bytes) -> "subprocess.CompletedProcess[str]":
        path = tmp_path / name
        path.write_bytes(content)
        queue = (tmp_path / "queue").read_text(encoding="utf-8")
        options = ["--in", queue, "--wait", "60", "-b", rabbitmq.server.url()]
        return subprocess.run(
            command("request", *options, path.name),
            env=dict(environment),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS + 30,
            check=False,
        )

    answered = request("a.jpg", factories.jpeg_bytes())
    refused = request("b.jpg", factories.jpeg_bytes()[:200])

    assert answered.returncode == 0, answered.stderr
    answer = json.loads(answered.stdout)
    assert (answer["kind"], answer["source"]) == ("classification", {"filename": "a.jpg"})
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["reason"] == "image_truncated"

    stage.send_signal(signal.SIGTERM)
    assert stage.wait(WAIT_SECONDS) == 0
    log = (tmp_path / "log").read_text(encoding="utf-8")
    assert "Stopped: everything in flight is settled" in log
