"""Producers and collectors of data streams, with ours and with other people's on the other side.

The others are written as the programs in the field are: bare bodies without headers, consumers that
acknowledge on arrival, queues declared durable without arguments.
"""

import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from product_consumer.queues.rabbitmq.url import AmqpUrl, read_url
from product_consumer.runtime import supervisor
from product_consumer.runtime.worker import Worker
from product_consumer.settings import Settings
from product_consumer.streams.collect import opening as collecting
from product_consumer.streams.produce import opening as producing
from tests.support import factories
from tests.support.paths import REPOSITORY
from tests.support.rabbitmq import RabbitClient

WAIT_SECONDS = 30.0
MATERIAL = REPOSITORY / "producer"


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """See soon that a queue is empty: no other test's messages are on their way to it."""
    monkeypatch.setattr(supervisor, "_CHECK_SECONDS", 0.05)
    monkeypatch.setattr(Worker, "_poll_seconds", lambda _: 0.2)


@pytest.fixture
def queue(rabbitmq: RabbitClient) -> str:
    return rabbitmq.name("stream")


@pytest.fixture
def url(rabbitmq: RabbitClient, queue: str) -> AmqpUrl:
    return read_url(rabbitmq.server.url(queue), "--rabbitmq_server")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data")


class Program:
    """One of the scripts, started in a directory of its own."""

    def __init__(self, script: str, rabbitmq: RabbitClient, queue: str, cwd: Path, *more: str):
        server = rabbitmq.server
        self.log = cwd / "log"
        self.out = cwd / "out"
        with self.log.open("wb") as log, self.out.open("wb") as out:
            self._popen = subprocess.Popen(
                [
                    *(sys.executable, str(REPOSITORY / script)),
                    *("-b", f"{server.host}:{server.port}", "-q", queue, *more),
                ],
                cwd=cwd,
                stdout=out,
                stderr=log,
            )

    def end(self, number: signal.Signals) -> int:
        self._popen.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        return self._popen.wait(WAIT_SECONDS)

    def close(self) -> None:
        self._popen.kill()
        self._popen.wait()


@pytest.fixture
def start(rabbitmq: RabbitClient, queue: str, tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Starts a script with the options given."""
    running: list[Program] = []

    def run(script: str, *more: str) -> Program:
        running.append(Program(script, rabbitmq, queue, tmp_path, *more))
        return running[-1]

    yield run
    for program in running:
        program.close()


def wait_until(is_true: Callable[[], object], program: Program | None = None) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_true():
        said = program.log.read_text() if program else ""
        assert time.monotonic() < deadline, f"it did not happen in time: {said}"
        time.sleep(0.02)


def consumers(rabbitmq: RabbitClient, queue: str) -> int:
    if not rabbitmq.exists(queue):
        return 0
    with rabbitmq.channel() as channel:
        return int(channel.queue_declare(queue, passive=True).method.consumer_count)


def collect(
    run: Callable[..., int], url: AmqpUrl, settings: Settings, output: Path, threads: int = 1
) -> dict[str, bytes]:
    """Run a collector until its queue is empty; return the files that it left."""
    assert run(url, settings, output, threads=threads, until_empty=True) == 0
    return {path.name: path.read_bytes() for path in output.iterdir()}


def test_every_picture_arrives_under_its_name(
    url: AmqpUrl, settings: Settings, tmp_path: Path
) -> None:
    images = MATERIAL / "images"
    for _ in range(2):
        # The second time changes nothing.
        assert producing.produce_images(url, settings, images, loop=False) == 0
        files = collect(collecting.collect_images, url, settings, tmp_path / "received", 4)

        assert files == {path.name: path.read_bytes() for path in images.iterdir()}


def test_every_word_arrives_as_a_file(url: AmqpUrl, settings: Settings, tmp_path: Path) -> None:
    texts = MATERIAL / "texts"
    code = producing.produce_texts(url, settings, texts, loop=False, per_file=False)
    files = collect(collecting.collect_texts, url, settings, tmp_path / "received")

    words = [word for path in texts.iterdir() for word in path.read_text("utf-8").split()]
    assert code == 0
    assert sorted(files.values()) == sorted(word.encode() for word in words)
    assert all(name.startswith("word_") for name in files)


def test_a_field_consumer_reads_our_words_and_pictures(
    rabbitmq: RabbitClient, url: AmqpUrl, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("to be or\nnot to be", "utf-8")
    producing.produce_texts(url, settings, tmp_path / "texts", loop=False, per_file=False)
    rabbitmq.declare(url.queue)

    taken = rabbitmq.take_all(url.queue)
    assert [got.body.decode() for got in taken] == ["to", "be", "or", "not", "to", "be"]
    assert {got.properties.delivery_mode for got in taken} == {2}

    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(factories.jpeg_bytes((64, 48)))
    producing.produce_images(url, settings, tmp_path / "images", loop=False)
    [got] = rabbitmq.take_all(url.queue)
    assert got.body == factories.jpeg_bytes((64, 48))
    assert got.headers == {"filename": "a.jpg", "image_size": [48, 64, 3]}
    assert got.properties.correlation_id == got.properties.message_id
    assert got.properties.app_id == "product-consumer"


def test_a_field_consumer_reads_our_records(
    rabbitmq: RabbitClient, url: AmqpUrl, settings: Settings
) -> None:
    rabbitmq.declare(url.queue)
    rabbitmq.publish(url.queue, "left over")
    file = MATERIAL / "tabular_data.csv"

    assert producing.produce_tabular(url, settings, file, number=300, interval_seconds=0) == 0

    records = [json.loads(got.body) for got in rabbitmq.take_all(url.queue)]
    assert len(records) == 300
    assert all({"created", "datetime", "temperature"} <= record.keys() for record in records)
    assert any(isinstance(v, float) and math.isnan(v) for r in records for v in r.values())


def test_our_collectors_read_field_producers(
    rabbitmq: RabbitClient, url: AmqpUrl, settings: Settings, tmp_path: Path
) -> None:
    rabbitmq.declare(url.queue)
    output = tmp_path / "received"
    for number in range(2):
        # Two runs, as the second must not overwrite the first.
        rabbitmq.publish(url.queue, "to", "be", "to", headers={} if number else None)
        files = collect(collecting.collect_texts, url, settings, output)
    assert [files[f"word_{number}.txt"] for number in range(1, 7)] == [b"to", b"be", b"to"] * 2

    jpeg = factories.jpeg_bytes()
    rabbitmq.publish(url.queue, jpeg, jpeg, jpeg + b"\0")
    files = collect(collecting.collect_images, url, settings, tmp_path / "pictures", 2)
    assert sorted(files.values()) == sorted([jpeg, jpeg + b"\0"])
    assert all(name.startswith("image_") and name.endswith(".jpg") for name in files)


HOSTILE_NAMES = [
    *("../../etc/passwd", "/etc/passwd", "", "x" * 300 + ".jpg", "a\0b", "a\nb", "CON", "planted"),
    *(b"\xff.jpg", ["a.jpg"], "same.jpg", "same.jpg", None, 7, "..", ".receiving-0123456789abcdef"),
]


def test_hostile_names_lose_nothing_and_touch_nothing(
    rabbitmq: RabbitClient, url: AmqpUrl, settings: Settings, tmp_path: Path
) -> None:
    output, outside = tmp_path / "deep" / "received", tmp_path / "outside"
    output.mkdir(parents=True)
    (output / "planted").symlink_to(outside)
    rabbitmq.declare(url.queue)
    bodies = [f"body {number}".encode() for number in range(len(HOSTILE_NAMES))]
    for body, name in zip(bodies, HOSTILE_NAMES, strict=True):
        rabbitmq.publish(url.queue, body, headers={"filename": name})
    assert collecting.collect_images(url, settings, output, threads=2, until_empty=True) == 0

    files = [path for path in output.iterdir() if not path.is_symlink()]
    assert sorted(path.read_bytes() for path in files) == sorted(bodies)
    assert not outside.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep"]


def test_what_is_not_readable_is_rejected_and_the_rest_arrives(
    rabbitmq: RabbitClient, url: AmqpUrl, settings: Settings, tmp_path: Path
) -> None:
    dead_letters = f"{url.queue}-dead-letter"
    rabbitmq.declare(dead_letters)
    rabbitmq.declare(url.queue)
    hostile: list[str | bytes] = ["not JSON", "[1]", '{"a": 1e400}', '{"a": {"b": 1}}', b"\xff\xfe"]
    rabbitmq.publish(url.queue, *hostile, '{"a": NaN, "b": "\\u001b[31m\x7f"}')
    output = tmp_path / "records.jsonl"

    code = collecting.collect_tabular(url, settings, output, threads=1, until_empty=True)

    assert code == 0
    assert output.read_text("utf-8") == '{"a": null, "b": "\\u001b[31m\\u007f"}\n'
    rejected = rabbitmq.take_all(dead_letters)
    reasons = ["json_invalid", "json_not_object", "number_range", "nested", "encoding"]
    assert sorted(got.headers["reason"] for got in rejected) == sorted(reasons)
    assert b"\xff\xfe" in [got.body for got in rejected]


def test_a_setup_deletes_the_queue_under_a_running_collector(
    rabbitmq: RabbitClient, url: AmqpUrl, settings: Settings, start: Callable[..., Program]
) -> None:
    collector = start("consumer/tabular_consumer.py")
    file = MATERIAL / "tabular_data.csv"
    for lines in (20, 40):
        wait_until(lambda: consumers(rabbitmq, url.queue), collector)
        assert producing.produce_tabular(url, settings, file, number=20, interval_seconds=0) == 0
        wait_until(lambda: len(collector.out.read_text().splitlines()) == lines, collector)  # noqa: B023

    assert collector.end(signal.SIGTERM) == 0
    assert all(json.loads(line)["sensor"] for line in collector.out.read_text().splitlines())


def test_a_killed_collector_loses_no_picture_and_leaves_nothing_half_done(
    rabbitmq: RabbitClient,
    url: AmqpUrl,
    settings: Settings,
    tmp_path: Path,
    start: Callable[..., Program],
) -> None:
    images, output = tmp_path / "images", tmp_path / "received_images"
    images.mkdir()
    for number in range(1500):
        (images / f"{number}.bin").write_bytes(f"picture {number} ".encode() * 500)
    producing.produce_images(url, settings, images, loop=False)
    collector = start("consumer/image_consumer.py")
    wait_until(lambda: output.is_dir() and len(list(output.iterdir())) > 100, collector)
    assert collector.end(signal.SIGKILL) != 0

    files = collect(collecting.collect_images, url, settings, output, 4)

    assert files == {path.name: path.read_bytes() for path in images.iterdir()}


def test_a_producer_prints_its_records_and_ends_with_0_by_ctrl_c(
    rabbitmq: RabbitClient, url: AmqpUrl, start: Callable[..., Program]
) -> None:
    producer = start("producer/stream_tabular_ingestion.py", "-i", "0.05")
    wait_until(lambda: len(producer.out.read_text().splitlines()) >= 3, producer)

    assert producer.end(signal.SIGINT) == 0
    printed = producer.out.read_bytes().splitlines()
    assert [got.body for got in rabbitmq.take_all(url.queue)] == printed

    assert start("producer/stream_tabular_ingestion.py", "-m", "teardown").wait() == 0
    assert not rabbitmq.exists(url.queue)
