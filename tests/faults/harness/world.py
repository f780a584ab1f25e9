"""A world for faults: real servers behind proxies, workers to feed and kill, and a verdict."""

import contextlib
import random
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy
from elasticsearch import Elasticsearch
from PIL import Image
from pymilvus import MilvusClient

from tests.acceptance.world import Worker, World, wait_until
from tests.faults.harness.checker import Case, Violation, violations
from tests.faults.harness.fake_embedder import image_embedding
from tests.faults.harness.final_state import (
    FinalState,
    read_elasticsearch,
    read_ledger,
    read_milvus,
    read_sqlite_search,
)
from tests.faults.harness.observer import observe
from tests.faults.harness.queues import POLL_SECONDS, queues_on
from tests.faults.harness.recording import Event, History, read_history
from tests.faults.harness.toxiproxy import Proxy
from tests.faults.harness.workload import IMAGE_COUNT, Sent
from tests.support import backends, factories
from tests.support.paths import REPOSITORY
from tests.support.rabbitmq_node import RabbitServer

VISIBILITY_SECONDS = 4
HORIZON_SECONDS = 6
STORE_TIMEOUT_SECONDS = 2
EMPTY_POLLS = 5
# A worker probes a dependency at least every 30 s, and holds messages for it up to a minute.
STALLED_SECONDS = 100.0
# For a whole test of the soak: every wait in it ends by itself, also on a busy machine.
SOAK_SECONDS = 1800


@dataclass(frozen=True, slots=True)
class Servers:
    """Addresses of running servers."""

    queues: RabbitServer | str
    """A RabbitMQ, or the URL of a server that speaks the SQS API."""
    postgres: str
    elasticsearch: str
    milvus: str
    toxiproxy: str


class FaultWorld(World):
    """A world with its own queue, database, index and collection, each behind its own proxy."""

    program = Path(__file__).with_name("worker.py")

    def __init__(self, directory: Path, servers: Servers) -> None:
        self.queues = queues_on(servers.queues)
        super().__init__(directory, self.queues.url, {})
        self.name = f"f{uuid.uuid4().hex[:12]}"
        self.images_url = f"http://127.0.0.1:{self.port}"
        self.image_embeddings = {number: self._draw(number) for number in range(IMAGE_COUNT)}
        self.history_path = directory / "history.jsonl"
        self.history = History(self.history_path)
        self.sent: dict[str, Sent] = {}
        self.was_killed = False
        self._servers = servers
        self.milvus_url = servers.milvus
        self.database_url = backends.create_database(servers.postgres, self.name)
        self.proxies = {
            dependency: Proxy(
                servers.toxiproxy, f"{self.name}-{dependency}", urlsplit(url).netloc.split("@")[-1]
            )
            for dependency, url in (
                ("queue", self.queues.url),
                ("ledger", servers.postgres),
                ("elasticsearch", servers.elasticsearch),
                ("milvus", servers.milvus),
            )
        }
        self.environment |= self._settings()

    def close(self) -> None:
        super().close()
        self.queues.close()
        for proxy in self.proxies.values():
            proxy.close()
        backends.drop_database(self._servers.postgres, self.name)
        index = f"{self.name}_v1"
        if "elasticsearch_client" in vars(self):
            self.elasticsearch_client.options(ignore_status=404).indices.delete(index=index)
            self.elasticsearch_client.close()
        if "milvus_client" in vars(self):
            with contextlib.suppress(Exception):
                self.milvus_client.drop_alias(self.name)
                self.milvus_client.drop_collection(index)
            self.milvus_client.close()

    @cached_property
    def elasticsearch_client(self) -> Elasticsearch:
        return Elasticsearch(self._servers.elasticsearch)

    @cached_property
    def milvus_client(self) -> MilvusClient:
        return MilvusClient(self._servers.milvus, dedicated=True)

    def start(
        self,
        bug: str = "",
        fault: str = "",
        threads: int = 4,
        settings: Mapping[str, str] | None = None,
    ) -> Worker:
        """Start a worker, with the bug and the fault inside it that are named."""
        harness = {"HARNESS_BUG": bug, "HARNESS_FAULT": fault}
        return self.start_worker("--threads", str(threads), **harness, **(settings or {}))

    def adopt(self, worker: Worker) -> None:
        """Own a worker that was started elsewhere."""
        self._workers.append(worker)

    def send_all(self, messages: Sequence[Any]) -> None:
        """Send the messages in this order, and keep each by its message id."""
        ids = self.queues.send(self.queue_url, [message.body for message in messages])
        self.sent |= dict(zip(ids, messages, strict=True))
        self.history.add("sent", total=len(self.sent))

    def kill(self, worker: Worker) -> None:
        """Send SIGKILL, and record it."""
        worker.kill()
        self.was_killed = True
        self._add_event_of(worker, "killed")

    def kill_when(self, worker: Worker, happened: Callable[[], bool]) -> None:
        """Kill a worker once something has happened, which it must within 20 s."""
        wait_until(happened, 20)
        assert happened(), f"it did not happen; {self.logs()}"
        self.kill(worker)

    def revision_in_milvus(self, product_id: str) -> int:
        row = read_milvus(self.milvus_client, self.name).get(product_id)
        return 0 if row is None else row.revision

    def wait_for_crash(self, worker: Worker, seconds: float = 30.0) -> None:
        """Wait until the fault inside a worker has killed it."""
        code = worker.wait(seconds)
        self.was_killed = True
        assert code == -signal.SIGKILL, self.logs()

    def wait_for_exit(self, worker: Worker, seconds: float = 30.0) -> int:
        return worker.process.wait(seconds)

    def wait_for_event(self, kind: str, count: int = 1, seconds: float = 30.0) -> list[Event]:
        """Wait until the history holds ``count`` events of a kind; return them."""
        events: list[Event] = []

        def has_happened() -> bool:
            events[:] = [event for event in self.events() if event.kind == kind]
            return len(events) >= count

        wait_until(has_happened, seconds)
        assert len(events) >= count, f"no {kind}; {self.logs()}"
        return events

    def wait_until_polling(self, worker: Worker, seconds: float = 30.0) -> None:
        """Wait until a worker asks the queue for messages."""
        pid = worker.process.pid

        def is_polling() -> bool:
            ended = worker.process.poll() is not None
            polls = (
                event.process == pid and event.kind in ("poll", "order_poll")
                for event in self.events()
            )
            return ended or any(polls)

        wait_until(is_polling, seconds)
        assert worker.process.poll() is None, self.logs()

    def wait_until_drained(self, seconds: float = STALLED_SECONDS) -> None:
        """Wait until the queue holds nothing, visible or hidden, for a whole second.

        A slow machine gets the time that it needs: this fails once no message has left the queue
        for so many seconds.
        """
        polls, least, progress_at = 0, self.left_in_queue(), time.monotonic()
        # The server does not count a message that it gave to a poll of a killed client.
        while polls < EMPTY_POLLS and self._some_are_running():
            time.sleep(0.2)
            left = self.left_in_queue()
            polls = polls + 1 if left == 0 else 0
            if left < least:
                least, progress_at = left, time.monotonic()
            if time.monotonic() > progress_at + seconds:
                break
        assert polls >= EMPTY_POLLS, f"nothing done in {seconds:g} s; {self.logs()}"

    def wait_until_left(self, most: int, seconds: float = 120.0) -> None:
        """Wait until the queue holds no more than so many messages, visible or hidden."""
        wait_until(lambda: self.left_in_queue() <= most or not self._some_are_running(), seconds)
        assert self.left_in_queue() <= most, f"more left after {seconds:g} s; {self.logs()}"

    def wait_until_checked(self, seconds: float = 3.0 * HORIZON_SECONDS) -> None:
        """Wait until the sweepers of running workers have made every pending check."""
        engine = sqlalchemy.create_engine(self.database_url)
        pending = sqlalchemy.text("SELECT count(*) FROM products WHERE check_after IS NOT NULL")

        def are_made() -> bool:
            time.sleep(0.2)
            with engine.connect() as connection:
                return connection.execute(pending).scalar_one() == 0

        wait_until(are_made, seconds)
        engine.dispose()

    def in_progress(self) -> list[str]:
        """Messages that the ledger has as in progress; after every worker has ended, suspects."""
        engine = sqlalchemy.create_engine(self.database_url)
        with engine.connect() as connection:
            ids = connection.execute(sqlalchemy.text("SELECT message_id FROM suspects")).scalars()
            found = list(ids)
        engine.dispose()
        return found

    def stop(self, *workers: Worker) -> None:
        """Send SIGTERM to all of them; each must end with 0."""
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
        codes = [self.wait_for_exit(worker) for worker in workers]
        assert codes == [0] * len(workers), self.logs()

    def _some_are_running(self) -> bool:
        return any(worker.process.poll() is None for worker in self._workers)

    def events(self) -> list[Event]:
        return read_history(self.history_path)

    def hidden_in_queue(self) -> int:
        """The number of messages that were received, and neither settled nor visible again."""
        return self.queues.hidden_in(self.queue_url)

    def left_in_queue(self) -> int:
        return self.queues.left_in(self.queue_url)

    def dead_letters(self) -> list[dict[str, Any]]:
        return self.queues.letters_in(self.dead_letter_url)

    def verdict(
        self,
        *,
        checks_are_done: bool = False,
        checks_are_pending: bool = False,
        responses_were_lost: bool = False,
    ) -> list[Violation]:
        """Read every store with independent clients and judge the whole history.

        ``responses_were_lost``: the queue may have taken the copy of a rejected message without
        telling the worker, which then sends another. So copies may repeat, as after a kill.
        """
        state = self._read(self.database_url)
        state.keywords = read_elasticsearch(self.elasticsearch_client, self.name)
        case = Case(
            self.events(),
            self.sent,
            state,
            image_embeddings=self.image_embeddings,
            may_repeat_dead_letters=self.was_killed or responses_were_lost,
            checks_are_done=checks_are_done,
            checks_are_pending=checks_are_pending,
        )
        return violations(case)

    def verdict_on_disk(self, data_dir: Path) -> list[Violation]:
        """The same for a worker whose ledger and keyword search are files."""
        state = self._read(f"sqlite:///{data_dir / 'products.db'}")
        state.keywords = read_sqlite_search(data_dir / "search.db")
        stores = ("milvus", "sqlite_search")
        return violations(Case(self.events(), self.sent, state, stores, self.image_embeddings))

    def _read(self, database_url: str) -> FinalState:
        state = FinalState(waiting=self.left_in_queue())
        read_ledger(database_url, state)
        state.vectors = read_milvus(self.milvus_client, self.name)
        state.dead_letters = [
            (letter.get("message_id", ""), letter.get("reason", ""))
            for letter in self.dead_letters()
        ]
        return state

    def unexpected_errors(self) -> list[str]:
        """Log lines of errors that a worker took for a bug, and so rejected a message for."""
        lines = (line for worker in self._workers for line in worker.log.splitlines())
        return [line for line in lines if "unexpected:" in line]

    def logs(self) -> str:
        """The end of every worker's log, for a failed assertion."""
        return "\n".join(
            f"--- {worker.log_path.name}\n{worker.log[-1500:]}" for worker in self._workers
        )

    @contextlib.contextmanager
    def observed(self) -> Iterator[None]:
        """Read the revisions in ledger and search all the time, for I3."""
        stopping = threading.Event()
        arguments = (
            stopping,
            self.history,
            self.database_url,
            self.elasticsearch_client,
            self.name,
        )
        observer = threading.Thread(target=observe, args=arguments, daemon=True)
        observer.start()
        try:
            yield
        finally:
            stopping.set()
            observer.join(10)

    def _add_event_of(self, worker: Worker, kind: str) -> None:
        line = Event(time.monotonic(), worker.process.pid, kind)
        self.history.add(kind, at=line.at, process=line.process)

    def _create_queues(self, name: str) -> tuple[str, str]:
        return self.queues.create(name)

    def _draw(self, number: int) -> Any:
        colour = tuple(random.Random(number).randrange(256) for _ in range(3))
        path = self.images / f"{number}.png"
        path.write_bytes(factories.png_bytes((32, 24), colour))
        with Image.open(path) as image:
            return image_embedding(image.convert("RGB").tobytes())

    def _settings(self) -> dict[str, str]:
        proxies = self.proxies
        return {
            **self.queues.settings(proxies["queue"]),
            "SQS_QUEUE_URL": self.queues.address(proxies["queue"], self.queue_url),
            "SQS_DEAD_LETTER_QUEUE_URL": self.queues.dead_letter_address(
                proxies["queue"], self.dead_letter_url
            ),
            "SQS_VISIBILITY_TIMEOUT_SECONDS": str(VISIBILITY_SECONDS),
            "SQS_WAIT_SECONDS": str(POLL_SECONDS),
            "DATABASE_URL": proxies["ledger"].in_front_of(self.database_url),
            "ELASTICSEARCH_URL": proxies["elasticsearch"].in_front_of(self._servers.elasticsearch),
            "ELASTICSEARCH_INDEX": self.name,
            "MILVUS_URI": proxies["milvus"].in_front_of(self._servers.milvus),
            "MILVUS_COLLECTION": self.name,
            "STORE_TIMEOUT_SECONDS": str(STORE_TIMEOUT_SECONDS),
            "REPAIR_HORIZON_SECONDS": str(HORIZON_SECONDS),
            "BATCH_SIZE": "5",
            "HARNESS_HISTORY": str(self.history_path),
            "PYTHONPATH": str(REPOSITORY),
        }


def kill_at_random(
    world: FaultWorld, messages: Sequence[Any], times: int, start: Callable[[], Worker], seed: int
) -> list[Worker]:
    """Keep two workers running and send the messages in portions; after each portion kill one of
    the two, 0.3 to 3 s after it began to receive. Return the two that run at the end.
    """
    draw = random.Random(seed)
    size = -(-len(messages) // times)
    workers = [start(), start()]
    for first in range(0, size * times, size):
        index = draw.randrange(2)
        victim = workers[index]
        world.wait_until_polling(victim)
        world.send_all(messages[first : first + size])
        time.sleep(draw.uniform(0.3, 3.0) * min(1.0, size / 100))
        world.kill(victim)
        workers[index] = start()
    for worker in workers:
        # A signal during the start of the interpreter would not end the process with 0.
        world.wait_until_polling(worker)
    return workers
