"""The demo of streams: from a RabbitMQ of its own to the printed results."""

import json
import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from time import monotonic
from typing import Any

from product_consumer.database.connection import Database, open_database
from product_consumer.demo import tiny_model
from product_consumer.demo.streams.material import Sent, labels, picture_requests, records
from product_consumer.demo.streams.node import LocalRabbit
from product_consumer.demo.streams.processes import StageProcesses
from product_consumer.demo.streams.summary import anomaly_lines, example_line, picture_lines
from product_consumer.demo.worker_settings import changed, embedded_settings
from product_consumer.environment import provide_temporary_directory
from product_consumer.errors import FatalError
from product_consumer.logs import configure_logging
from product_consumer.pipeline.backoff import Stopped
from product_consumer.queues.rabbitmq.opening import open_stream_queue, open_stream_sender
from product_consumer.queues.rabbitmq.url import AmqpUrl, read_server
from product_consumer.runtime.exit_codes import exit_code_of_errors
from product_consumer.runtime.signals import Shutdown
from product_consumer.settings import Settings, read_settings
from product_consumer.streams.anomaly.planted import Tally
from product_consumer.streams.results import ResultStore, StageResult

log = logging.getLogger(__name__)

RESULT_SECONDS = 60.0
_POLL_SECONDS = 0.2
_QUEUES = ("raw", "pixels", "features", "results", "records", "anomalies")


def main() -> int:
    """Run the demo; return the exit code: 2 where no RabbitMQ is installed."""
    with exit_code_of_errors() as ending:
        settings = read_settings()
        configure_logging(settings.log_format, "WARNING")
        demo_settings = _demo_settings(settings)
        provide_temporary_directory(demo_settings.data_dir / "tmp")
        with Shutdown(settings.drain_seconds) as shutdown:
            StreamDemo(demo_settings, shutdown.stopping).run()
    return ending.code


class StreamDemo:
    """The steps of the demo, in one thread."""

    def __init__(self, settings: Settings, stopping: threading.Event) -> None:
        self._settings = settings
        self._stopping = stopping
        self._folder = settings.data_dir

    def run(self) -> None:
        """Run all steps and print the results.

        Raises ``UsageError`` where no RabbitMQ is installed, ``FatalError`` and ``Stopped``.
        """
        started = monotonic()
        with ExitStack() as running:
            _tell("Starting a RabbitMQ of its own, and the stages")
            node = running.enter_context(LocalRabbit(self._folder / "rabbitmq", self._wait))
            urls = {name: _url(node.server, name) for name in _QUEUES}
            stages = running.enter_context(self._start_stages(node.server))
            requests = picture_requests(self._folder / "pictures")
            stages.wait_until_they_consume()
            _tell(f"Ready after {monotonic() - started:.0f} s")
            database = running.enter_context(closing(open_database(self._settings)))
            self._show_pictures(urls["raw"], requests, database, stages)
            self._show_records(urls, stages)
        _tell(f"Done in {monotonic() - started:.0f} s; logs and results are in {self._folder}")

    def _start_stages(self, server: str) -> StageProcesses:
        model = tiny_model.settings(self._folder / "model")
        settings = {name.upper(): str(value) for name, value in model.items()}
        settings |= {"DATA_DIR": str(self._folder), "OMP_NUM_THREADS": "1"}
        path = self._folder / "labels.txt"
        path.write_text("\n".join(labels()) + "\n", encoding="utf-8")
        stages = StageProcesses(self._folder, server, settings, self._wait)
        try:
            last = ["--results", "results", "--labels", str(path)]
            stages.start("preprocess", ["--in", "raw", "--out", "pixels"])
            stages.start("features", ["--in", "pixels", "--out", "features"])
            stages.start("classify", ["--in", "features", *last])
            stages.start("anomaly", ["--in", "records", "--out", "anomalies", "--alerts", "log"])
        except BaseException:
            stages.__exit__()
            raise
        return stages

    def _show_pictures(
        self, raw: AmqpUrl, requests: list[Sent], database: Database, stages: StageProcesses
    ) -> None:
        store = ResultStore(database)
        store.setup()
        names = [request.correlation_id for request in requests]
        with closing(open_stream_sender(raw, self._settings)) as sender:
            sender.send([request.message for request in requests])
        self._until(lambda: len(store.present(names)) == len(names), stages)
        rows = {name: store.of(name)[0] for name in names}
        _tell("", *picture_lines(requests, rows))
        first: StageResult = rows[names[0]]
        _tell("  " + example_line(first.value()))

    def _show_records(self, urls: Mapping[str, AmqpUrl], stages: StageProcesses) -> None:
        planted = {name: record.kind for name, record, _ in records()}
        tally, seen = Tally(), set[str]()
        started = monotonic()
        with closing(open_stream_sender(urls["records"], self._settings)) as sender:
            sender.send(message for _, _, message in records())
        queue = open_stream_queue(
            urls["anomalies"], self._settings, label="RabbitMQ (anomalies)", prefetch=1000
        )
        example: dict[str, Any] = {}

        def take() -> bool:
            for message in queue.receive(10, 1):
                result = json.loads(message.body)
                queue.acknowledge([message])
                name = result["correlation_id"]
                if name not in seen:
                    seen.add(name)
                    tally.add(planted[name], result["is_anomaly"])
                    example.update(result if result["is_anomaly"] else {})
            return len(seen) == len(planted)

        with closing(queue):
            self._until(take, stages, pause_seconds=0.0)
        _tell("", *anomaly_lines(tally, monotonic() - started, len(planted)))
        _tell("  " + example_line(example))

    def _until(
        self,
        is_done: Callable[[], bool],
        stages: StageProcesses,
        pause_seconds: float = _POLL_SECONDS,
    ) -> None:
        deadline = monotonic() + RESULT_SECONDS
        while not is_done():
            stages.check()
            if monotonic() > deadline:
                raise FatalError(f"results are missing: see the logs in {self._folder}")
            if self._wait(pause_seconds):
                raise Stopped

    def _wait(self, seconds: float) -> bool:
        return self._stopping.wait(seconds)


def _demo_settings(settings: Settings) -> Settings:
    """Return settings without any server, in a folder of the demo's own."""
    embedded = embedded_settings(settings)
    return changed(embedded, {"data_dir": (settings.data_dir / "demo-streams").resolve()})


def _url(server: str, queue: str) -> AmqpUrl:
    return read_server(server, "--rabbitmq_server", queue, user="guest", password="guest")  # noqa: S106


def _tell(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)
