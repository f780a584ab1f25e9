"""The whole program under test: queues, an image host, workers to start, stop and kill.

Everything here uses public interfaces only (boto3, pymilvus, sqlite3, HTTP), as other people's
producers and readers do. The image host is Python's own HTTP server.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
from typer.testing import CliRunner

from product_consumer.cli.app import app
from tests.support import factories
from tests.support.paths import REPOSITORY

EXIT_SECONDS = 40.0


class Worker:
    """One ``thread_runner.py`` process; it logs to a file."""

    def __init__(
        self,
        environment: Mapping[str, str],
        directory: Path,
        arguments: list[str],
        program: Path = REPOSITORY / "thread_runner.py",
    ) -> None:
        self.log_path = directory / f"worker-{uuid.uuid4().hex[:8]}.log"
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(program), *arguments],
                env=dict(environment),
                cwd=directory,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def wait(self, seconds: float = 120.0) -> int:
        return self.process.wait(seconds)

    def wait_for_log(self, text: str, count: int = 1, seconds: float = 60.0) -> None:
        wait_until(
            lambda: self.log.count(text) >= count or self.process.poll() is not None, seconds
        )
        assert self.log.count(text) >= count, self.log

    def send_signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class World:
    """Queues of its own on a shared server, an image host, and the settings of a worker."""

    program = REPOSITORY / "thread_runner.py"

    def __init__(self, directory: Path, sqs_url: str, model: Mapping[str, str]) -> None:
        self.directory = directory
        self.data_dir = directory / "data"
        self.images = directory / "images"
        self.images.mkdir()
        self.image_server = _ImageServer(
            ("127.0.0.1", 0), partial(_QuietHandler, directory=str(self.images))
        )
        threading.Thread(target=self.image_server.serve_forever, daemon=True).start()
        self.port = int(self.image_server.server_address[1])
        self._workers: list[Worker] = []
        self.sqs: Any = boto3.client(
            "sqs",
            endpoint_url=sqs_url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        self.queue_url, self.dead_letter_url = self._create_queues(f"q-{uuid.uuid4().hex[:12]}")
        clean = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        self.environment = {
            **clean,
            "SQS_QUEUE_URL": self.queue_url,
            "AWS_ENDPOINT_URL": sqs_url,
            "AWS_REGION": "us-east-1",
            "SQS_ACCESS_KEY": "test",
            "SQS_SECRET_KEY": "test",
            "SQS_VISIBILITY_TIMEOUT_SECONDS": "6",
            "SQS_WAIT_SECONDS": "1",
            "IMAGE_ALLOWED_NETWORKS": "127.0.0.0/8",
            "IMAGE_ALLOWED_PORTS": f"80,443,{self.port}",
            "IMAGE_MISSING_GRACE_SECONDS": "0",
            "DATA_DIR": str(self.data_dir),
            "DEVICE": "cpu",
            **model,
        }

    def close(self) -> None:
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.kill()
        self.image_server.shutdown()
        self.image_server.server_close()
        self.sqs.close()

    def start_worker(self, *arguments: str, **settings: str) -> Worker:
        worker = self._start(self.environment | settings, list(arguments))
        self._workers.append(worker)
        return worker

    def _start(self, environment: Mapping[str, str], arguments: list[str]) -> Worker:
        return Worker(environment, self.directory, arguments, self.program)

    def run_console(self, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "product_consumer", *arguments],
            env={**self.environment, **settings, "PYTHONPATH": str(REPOSITORY)},
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def search(self, *arguments: str) -> list[str]:
        """Return the ids that the console's search finds, best first; it runs in this process."""
        words = ["search", *arguments, "--limit", "100", "--json"]
        searched = CliRunner().invoke(app, words, env=self.environment)
        assert searched.exit_code == 0, (searched.output, searched.exception)
        return [json.loads(line)["id"] for line in searched.stdout.splitlines()]

    def product(self, number: int, **changes: Any) -> dict[str, Any]:
        """A product message with an image of its own on the image host."""
        name = f"{number}.jpg"
        if not (self.images / name).exists():
            (self.images / name).write_bytes(factories.jpeg_bytes((80, 60), seed=number))
        body = factories.product_body(
            id=f"p{number}",
            name=f"Product number {number}",
            price=f"{1000 + number} VND",
            image_url=f"http://127.0.0.1:{self.port}/{name}",
        )
        return body | changes

    def send(self, *bodies: dict[str, Any] | str) -> None:
        texts = [body if isinstance(body, str) else json.dumps(body) for body in bodies]
        for start in range(0, len(texts), 10):
            entries = [
                {"Id": str(index), "MessageBody": text}
                for index, text in enumerate(texts[start : start + 10])
            ]
            reply = self.sqs.send_message_batch(QueueUrl=self.queue_url, Entries=entries)
            assert "Failed" not in reply or not reply["Failed"]

    def dead_letters(self) -> list[dict[str, Any]]:
        """Everything in the dead-letter queue: ``body`` and its attributes."""
        letters: list[dict[str, Any]] = []
        while True:
            reply = self.sqs.receive_message(
                QueueUrl=self.dead_letter_url,
                MaxNumberOfMessages=10,
                MessageAttributeNames=["All"],
                VisibilityTimeout=60,
            )
            if not reply.get("Messages"):
                return letters
            for message in reply["Messages"]:
                attributes = message.get("MessageAttributes", {})
                values = {name: value["StringValue"] for name, value in attributes.items()}
                letters.append({"body": message["Body"], **values})

    def left_in_queue(self) -> int:
        reply = self.sqs.get_queue_attributes(QueueUrl=self.queue_url, AttributeNames=["All"])
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        return sum(int(reply["Attributes"][name]) for name in names)

    def _create_queues(self, name: str) -> tuple[str, str]:
        dead = self.sqs.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
        arn = self.sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])
        policy = {
            "deadLetterTargetArn": arn["Attributes"]["QueueArn"],
            "maxReceiveCount": "12",
        }
        queue = self.sqs.create_queue(
            QueueName=name, Attributes={"RedrivePolicy": json.dumps(policy)}
        )
        return queue["QueueUrl"], dead


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait until the condition holds, at most so long; the caller checks whether it does."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)


@contextlib.contextmanager
def opened_world(directory: Path, sqs_url: str, model: Mapping[str, str]) -> Iterator[World]:
    world = World(directory, sqs_url, model)
    try:
        yield world
    finally:
        world.close()


class _ImageServer(ThreadingHTTPServer):
    request_queue_size = 128


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        return None
