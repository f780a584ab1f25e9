"""Queue, image host, databases and workers for benchmarks: real ones, each in processes of its own.

Everything ends with the block that opened it, on Ctrl-C too.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit
from urllib.request import urlopen

import boto3
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.support.measuring import cpu_seconds
from benchmarks.support.model import ModelFiles, write_model
from benchmarks.support.photographs import Photographs
from product_consumer.settings import Settings
from tests.support import backends
from tests.support.paths import REPOSITORY
from tests.support.tools import MissingTool

HIDDEN_SECONDS = 600
"""How long a received message stays hidden: longer than any worker is paused."""
PATIENT_SECONDS = 60
"""Timeout of single calls, for the same reason."""
START_SECONDS = 300.0
_SENDERS = 4

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class World:
    """All servers that workers need, and the files that they share."""

    scratch: Path
    images: Path
    model: ModelFiles
    photographs: Photographs
    servers: Mapping[str, backends.Backend]
    sqs: Any

    @property
    def image_url(self) -> str:
        return self.servers["images"].url

    def server_cpu_seconds(self) -> dict[str, float]:
        """Return CPU seconds so far, by server."""
        return cpu_seconds({name: server.process.pid for name, server in self.servers.items()})


@contextmanager
def open_world(*, status_log: bool = False) -> Iterator[World]:
    """Start all servers. Exits with one line that names a missing tool.

    With ``status_log`` the image host writes the status of each response to ``scratch/statuses``.
    """
    signal.signal(signal.SIGTERM, _stop)
    with ExitStack() as opened:
        scratch = Path(tempfile.mkdtemp(prefix="benchmark-"))
        opened.callback(shutil.rmtree, scratch, ignore_errors=True)
        images = scratch / "images"
        images.mkdir()
        log = scratch / "statuses" if status_log else None
        starts: dict[str, Callable[[], backends.Backend]] = {
            "queue": backends.start_elasticmq,
            "images": lambda: backends.start_nginx(images, log),
            "PostgreSQL": backends.start_postgres,
            "Milvus Lite": backends.start_milvus,
            "Elasticsearch": backends.start_elasticsearch,
        }
        servers = {}
        for name, start in starts.items():
            try:
                servers[name] = opened.enter_context(start())
            except MissingTool as error:
                raise SystemExit(f"This benchmark needs {name}: {error}") from error
        sqs = _sqs_client(servers["queue"].url)
        opened.callback(sqs.close)
        yield World(scratch, images, write_model(scratch), Photographs(), servers, sqs)


def use_cores(count: int) -> int:
    """Keep this process, and all it starts, on ``count`` cores; return how many it has got."""
    cores = sorted(os.sched_getaffinity(0))[:count]
    os.sched_setaffinity(0, cores)
    return len(cores)


class Feed:
    """A queue of one worker, filled in advance with new products."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.sent = 0
        self.images = 0
        self.url: str = world.sqs.create_queue(
            QueueName=f"q-{uuid.uuid4().hex[:12]}",
            Attributes={"VisibilityTimeout": str(HIDDEN_SECONDS)},
        )["QueueUrl"]

    def keep(self, waiting: int) -> None:
        """Send new products until this many messages are in the queue."""
        missing = waiting - self.left()
        if missing > 0:
            self.send([self.new_product(self.sent + n) for n in range(missing)])

    def new_product(self, number: int, **changes: Any) -> Body:
        """Return a product with a photograph that no other product of this queue has."""
        return product(number, self.new_image(), **changes)

    def new_image(self) -> str:
        """Put the next photograph on the image host; return its URL."""
        number = self.images
        self.images += 1
        path = self._world.images / f"{number}.jpg"
        if not path.exists():
            path.write_bytes(self._world.photographs.get(number))
        return f"{self._world.image_url}/{number}.jpg"

    def send(self, bodies: Sequence[Body]) -> None:
        """Put messages into the queue, in tens."""
        tens = [bodies[start : start + 10] for start in range(0, len(bodies), 10)]
        with ThreadPoolExecutor(_SENDERS) as senders:
            list(senders.map(self._send_ten, tens))
        self.sent += len(bodies)

    def left(self) -> int:
        """Return the number of messages that are not deleted yet."""
        reply = self._world.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["All"])
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        return sum(int(reply["Attributes"][name]) for name in names)

    def done(self) -> int:
        """Return the number of messages deleted so far."""
        return self.sent - self.left()

    def _send_ten(self, bodies: Sequence[Body]) -> None:
        entries = [
            {"Id": str(position), "MessageBody": json.dumps(body)}
            for position, body in enumerate(bodies)
        ]
        reply = self._world.sqs.send_message_batch(QueueUrl=self.url, Entries=entries)
        if reply.get("Failed"):
            raise RuntimeError(f"the queue refused messages: {reply['Failed'][0]}")


def product(number: int, image_url: str, *, version: int = 1, price: str = "") -> Body:
    """Return a message as a crawler writes it."""
    return {
        "id": f"product-{number}",
        "name": f"Stoneware mug with handle, dishwasher safe, 350 ml, model {number}",
        "price": price or f"{5 + number % 90}.99",
        "image_url": image_url,
        "store_url": f"https://shop.example/products/{number}",
        "rating": "4.6",
        "reviews_count": str(number % 2000),
        "version": version,
    }


class WorkerProcess:
    """One worker with a queue of its own, in a process group that can be paused."""

    def __init__(
        self,
        name: str,
        feed: Feed,
        scratch: Path,
        program: Sequence[str],
        environment: Mapping[str, str],
    ) -> None:
        self.name = name
        self.feed = feed
        directory = scratch / f"worker-{uuid.uuid4().hex[:8]}"
        directory.mkdir()
        self.log_path = directory / "log"
        tied = ["setpriv", "--pdeathsig=KILL"] if shutil.which("setpriv") else []
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(  # noqa: S603
                [*tied, sys.executable, *program],
                env=dict(environment),
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        """Wait until its threads receive; raises ``RuntimeError`` with its log if they do not."""
        deadline = time.monotonic() + START_SECONDS
        while "started consuming" not in self.log:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} did not start:\n{self.log[-3000:]}")
            time.sleep(0.1)

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def check(self) -> None:
        """Raise ``RuntimeError`` with its log if it has ended."""
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended:\n{self.log[-3000:]}")

    def cpu_seconds(self) -> float:
        return cpu_seconds({"worker": self.process.pid})["worker"]

    def pause(self) -> None:
        os.killpg(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.killpg(self.process.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class OurWorker(WorkerProcess):
    """``thread_runner.py`` with default settings but for addresses, timeouts and currency."""

    def __init__(self, world: World, feed: Feed, **settings: str) -> None:
        self._metrics_port = backends.free_port()
        environment = clean_environment() | {
            "SQS_QUEUE_URL": feed.url,
            "AWS_ENDPOINT_URL": world.servers["queue"].url,
            "AWS_REGION": "us-east-1",
            "SQS_ACCESS_KEY": "benchmark",
            "SQS_SECRET_KEY": "benchmark",
            "SQS_VISIBILITY_TIMEOUT_SECONDS": str(HIDDEN_SECONDS),
            "DATABASE_URL": new_database(world),
            "MILVUS_URI": world.servers["Milvus Lite"].url,
            "ELASTICSEARCH_URL": world.servers["Elasticsearch"].url,
            "STORE_TIMEOUT_SECONDS": str(PATIENT_SECONDS),
            "IMAGE_TIMEOUT_SECONDS": str(PATIENT_SECONDS),
            "IMAGE_ALLOWED_NETWORKS": "127.0.0.0/8",
            "IMAGE_ALLOWED_PORTS": str(urlsplit(world.image_url).port),
            "OPENCLIP_CONFIG": str(world.model.config),
            "OPENCLIP_PRETRAINED": str(world.model.weights),
            "DEVICE": "cpu",
            "DEFAULT_CURRENCY": "USD",
            "METRICS_PORT": str(self._metrics_port),
            **settings,
        }
        program = [str(REPOSITORY / "thread_runner.py")]
        super().__init__("this worker", feed, world.scratch, program, environment)

    def metrics(self) -> dict[str, float]:
        """Return its metrics: samples by name, with the values of their labels in brackets."""
        with urlopen(f"http://127.0.0.1:{self._metrics_port}/metrics", timeout=30) as response:
            text = response.read().decode()
        return {
            sample.name + "".join(f"[{value}]" for value in sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


class NaiveWorker(WorkerProcess):
    """A process of ``benchmarks.support.naive``."""

    def __init__(self, world: World, feed: Feed, name: str = "naive", **settings: str) -> None:
        environment = clean_environment() | {
            "SQS_QUEUE_URL": feed.url,
            "AWS_ENDPOINT_URL": world.servers["queue"].url,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "benchmark",
            "AWS_SECRET_ACCESS_KEY": "benchmark",
            "DATABASE_URL": new_database(world).replace("postgresql+psycopg", "postgresql"),
            "MILVUS_URI": world.servers["Milvus Lite"].url,
            "ELASTICSEARCH_URL": world.servers["Elasticsearch"].url,
            "OPENCLIP_CONFIG": str(world.model.config),
            "OPENCLIP_PRETRAINED": str(world.model.weights),
            "PYTHONPATH": str(REPOSITORY),
            "NAIVE_NAME": f"naive_{uuid.uuid4().hex[:8]}",
            **settings,
        }
        program = ["-m", "benchmarks.support.naive"]
        super().__init__(name, feed, world.scratch, program, environment)


def clean_environment() -> dict[str, str]:
    """Return this process's environment without the developer's own settings."""
    ours = {name.upper() for name in Settings.model_fields} | {"MILVUS_HOST", "MILVUS_PORT"}
    return {
        name: value
        for name, value in os.environ.items()
        if name.upper() not in ours and not name.startswith("AWS_")
    }


def new_database(world: World) -> str:
    """Make an empty database; return its SQLAlchemy URL."""
    return backends.create_database(
        world.servers["PostgreSQL"].url, f"benchmark_{uuid.uuid4().hex[:8]}"
    )


def _stop(*_signal: object) -> None:
    sys.exit("stopped")


def _sqs_client(url: str) -> Any:
    return boto3.client(
        "sqs",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="benchmark",
        aws_secret_access_key="benchmark",  # noqa: S106
    )
