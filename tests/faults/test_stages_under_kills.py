"""A chain of three stages whose processes are killed: every request is answered, each the same."""

import io
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from product_consumer.demo import tiny_model
from product_consumer.demo.drawings.drawing import draw_product
from tests.support.paths import REPOSITORY
from tests.support.rabbitmq import RabbitClient

KINDS = ("mug", "chair", "umbrella", "hat")
KILLS, BURST = 8, 40
REQUESTS = KILLS * BURST
LIMIT_SECONDS = 300.0
STARTED = "Thread 1 started consuming"


class Chain:
    """Three stages as processes, from the queue ``raw`` to the queue of answers."""

    def __init__(self, client: RabbitClient, directory: Path) -> None:
        self.directory = directory
        self.raw, self.answers = client.new_queue("raw"), client.new_queue("answers")
        pixels, features, out = (client.name(stem) for stem in ("pixels", "features", "out"))
        labels = directory / "labels.txt"
        labels.write_text("\n".join(KINDS), encoding="utf-8")
        self._server = client.server.url()
        last = ["--results", client.name("results"), "--labels", str(labels)]
        self._options = {
            "preprocess": ["--in", self.raw, "--out", pixels],
            "features": ["--in", pixels, "--out", features],
            "classify": ["--in", features, "--out", out, *last],
        }
        self._environment = {
            **os.environ,
            "DATA_DIR": str(directory / "data"),
            "DEVICE": "cpu",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(REPOSITORY),
            **{
                name.upper(): str(value)
                for name, value in tiny_model.settings(directory / "model").items()
            },
        }
        self._starts = Counter[str]()
        self.processes = {name: self.start(name) for name in self._options}

    def start(self, name: str) -> subprocess.Popen[bytes]:
        self._starts[name] += 1
        command = [sys.executable, "-m", "product_consumer", "stage", name, *self._options[name]]
        with (self.directory / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [*command, "--rabbitmq_server", self._server, "--threads", "2"],
                env=self._environment,
                cwd=self.directory,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()
        self.processes[name] = self.start(name)

    def stop(self) -> list[int]:
        for name, process in self.processes.items():
            self._wait_until_it_consumes(name)
            process.send_signal(signal.SIGTERM)
        return [process.wait(60) for process in self.processes.values()]

    def _wait_until_it_consumes(self, name: str) -> None:
        """Wait for the last start: every earlier one has got as far, and was killed then."""
        log, deadline = self.directory / f"{name}.log", monotonic() + 60
        while log.read_text(encoding="utf-8").count(STARTED) < self._starts[name]:
            assert monotonic() < deadline, log.read_text(encoding="utf-8")
            sleep(0.1)

    def rows(self) -> dict[str, tuple[str, str]]:
        with sqlite3.connect(self.directory / "data" / "products.db") as database:
            found = database.execute("SELECT correlation_id, stage, status FROM results")
            return {row[0]: row[1:] for row in found}


@pytest.fixture
def chain(rabbitmq: RabbitClient, tmp_path: Path) -> Iterator[Chain]:
    opened = Chain(rabbitmq, tmp_path)
    yield opened
    for process in opened.processes.values():
        process.kill()
        process.wait()


def picture(number: int) -> bytes:
    buffer = io.BytesIO()
    rng = random.Random(number)
    draw_product(KINDS[number % len(KINDS)], "red", rng, 100).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.soak
@pytest.mark.timeout(2 * LIMIT_SECONDS)
def test_a_chain_whose_processes_are_killed_answers_every_request(
    rabbitmq: RabbitClient, chain: Chain
) -> None:
    rng = random.Random(7)
    answers: dict[str, dict[str, Any]] = {}
    ids: dict[str, set[str]] = {}

    def take_answers() -> None:
        for got in rabbitmq.take_all(chain.answers):
            body = json.loads(got.body)
            assert body["correlation_id"] == got.properties.correlation_id
            known = answers.setdefault(body["correlation_id"], body)
            assert known["label"] == body["label"]
            ids.setdefault(body["correlation_id"], set()).add(str(got.properties.message_id))

    def wait_for_answers(count: int) -> None:
        deadline = monotonic() + LIMIT_SECONDS
        while len(answers) < count:
            assert monotonic() < deadline, f"{len(answers)} of {count} answered"
            take_answers()
            sleep(0.1)

    for round_ in range(KILLS):
        for number in range(round_ * BURST, (round_ + 1) * BURST):
            name = f"c-{number}"
            properties = {"correlation_id": name, "message_id": name, "reply_to": chain.answers}
            rabbitmq.publish(chain.raw, picture(number), content_type="image/jpeg", **properties)
        # Work is under way everywhere once the first of the burst is answered.
        wait_for_answers(round_ * BURST + 1)
        chain.kill(rng.choice(list(chain.processes)))
    wait_for_answers(REQUESTS)

    assert all(len(found) == 1 for found in ids.values())
    right = sum(answers[f"c-{n}"]["label"] == KINDS[n % len(KINDS)] for n in range(REQUESTS))
    assert right > 0.9 * REQUESTS
    assert chain.stop() == [0, 0, 0]
    assert set(chain.rows().values()) == {("classify", "done")}
    assert not (chain.directory / "data" / "rejected.jsonl").exists()
