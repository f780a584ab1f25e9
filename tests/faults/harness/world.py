"""Where a fault is tried: real servers behind proxies, workers to feed and kill, a verdict."""

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
from tests.faults.harness.fake_embedder import picture_vector
from tests.faults.harness.final_state import (
    FinalState,
    read_elasticsearch,
    read_ledger,
    read_milvus,
    read_sqlite_search,
)
from tests.faults.harness.observer import observe
from tests.faults.harness.recording import Event, History, read_history
from tests.faults.harness.toxiproxy import Proxy
from tests.faults.harness.workload import PICTURES, Sent
from tests.support import backends, factories
from tests.support.paths import REPOSITORY

VISIBILITY_SECONDS = 4
POLL_SECONDS = 1
HORIZON_SECONDS = 6
STORE_TIMEOUT_SECONDS = 2
EMPTY_LOOKS = 5
# A worker probes what is down every 30 s at the longest and holds messages for it for a minute.
STALLED_SECONDS = 100.0
# For a whole test of the soak: every wait in it ends by itself, however busy the machine is.
SOAK_SECONDS = 1800


@dataclass(frozen=True, slots=True)
class Servers:
    """Addresses of running servers."""

    sqs: str
    postgres: str
    elasticsearch: str
    milvus: str
    toxiproxy: str


class FaultWorld(World):
    """A queue, a database, an index and a collection of its own, each behind a proxy of its own."""

    program = Path(__file__).with_name("worker.py")

    def __init__(self, directory: Path, servers: Servers) -> None:
        super().__init__(directory, servers.sqs, {})
        self.name = f"f{uuid.uuid4().hex[:12]}"
        self.images_url = f"http://127.0.0.1:{self.port}"
        self.picture_vectors = {number: self._draw(number) for number in range(PICTURES)}
        self.history_path = directory / "history.jsonl"
        self.history = History(self.history_path)
        self.sent: dict[str, Sent] = {}
        self.was_killed = False
        self._servers = servers
        self.milvus_url = servers.milvus
        self.database_url = backends.create_database(servers.postgres, self.name)
        self.proxies = {
            part: Proxy(
                servers.toxiproxy, f"{self.name}-{part}", urlsplit(url).netloc.split("@")[-1]
            )
            for part, url in (
                ("queue", servers.sqs),
                ("ledger", servers.postgres),
                ("elasticsearch", servers.elasticsearch),
                ("milvus", servers.milvus),
            )
        }
        self.environment |= self._settings()

    def close(self) -> None:
        super().close()
        for proxy in self.proxies.values():
            proxy.close()
        backends.drop_database(self._servers.postgres, self.name)
        index = f"{self.name}_v1"
        if "search_client" in vars(self):
            self.search_client.options(ignore_status=404).indices.delete(index=index)
            self.search_client.close()
        if "vector_client" in vars(self):
            with contextlib.suppress(Exception):
                self.vector_client.drop_alias(self.name)
                self.vector_client.drop_collection(index)
            self.vector_client.close()

    @cached_property
    def search_client(self) -> Elasticsearch:
        return Elasticsearch(self._servers.elasticsearch)

    @cached_property
    def vector_client(self) -> MilvusClient:
        return MilvusClient(self._servers.milvus, dedicated=True)

    def start(
        self,
        bug: str = "",
        fault: str = "",
        threads: int = 4,
        settings: Mapping[str, str] | None = None,
    ) -> Worker:
        """Start a worker, with a planted bug or a fault inside it if one is named."""
        harness = {"HARNESS_BUG": bug, "HARNESS_FAULT": fault}
        return self.start_worker("--threads", str(threads), **harness, **(settings or {}))

    def adopt(self, worker: Worker) -> None:
        """Take care of a worker that was started elsewhere."""
        self._workers.append(worker)

    def send_all(self, messages: Sequence[Any]) -> None:
        """Send the messages in this order, and remember which is which."""
        for start in range(0, len(messages), 10):
            ten = messages[start : start + 10]
            entries = [{"Id": str(i), "MessageBody": each.body} for i, each in enumerate(ten)]
            reply = self.sqs.send_message_batch(QueueUrl=self.queue_url, Entries=entries)
            for success in reply["Successful"]:
                self.sent[success["MessageId"]] = ten[int(success["Id"])]
        self.history.note("sent", total=len(self.sent))

    def kill(self, worker: Worker) -> None:
        """SIGKILL, written into the history."""
        worker.kill()
        self.was_killed = True
        self._note_of(worker, "killed")

    def kill_when(self, worker: Worker, happened: Callable[[], bool]) -> None:
        """Kill a worker once something has happened, which it must within 20 s."""
        wait_until(happened, 20)
        assert happened(), f"it did not happen; {self.logs()}"
        self.kill(worker)

    def revision_in_milvus(self, product_id: str) -> int:
        row = read_milvus(self.vector_client, self.name).get(product_id)
        return 0 if row is None else row.revision

    def wait_for_crash(self, worker: Worker, seconds: float = 30.0) -> None:
        """Wait until a worker was ended by the fault inside it."""
        code = worker.wait(seconds)
        self.was_killed = True
        assert code == -signal.SIGKILL, self.logs()

    def wait_for_exit(self, worker: Worker, seconds: float = 30.0) -> int:
        return worker.process.wait(seconds)

    def wait_for_event(self, kind: str, count: int = 1, seconds: float = 30.0) -> list[Event]:
        """Wait until the history holds ``count`` events of a kind; return them."""
        found: list[Event] = []

        def is_there() -> bool:
            found[:] = [event for event in self.events() if event.kind == kind]
            return len(found) >= count

        wait_until(is_there, seconds)
        assert len(found) >= count, f"no {kind}; {self.logs()}"
        return found

    def wait_until_polling(self, worker: Worker, seconds: float = 30.0) -> None:
        """Wait until a worker asks the queue for messages."""
        pid = worker.process.pid

        def polls() -> bool:
            ended = worker.process.poll() is not None
            asked = (
                event.process == pid and event.kind in ("poll", "order_poll")
                for event in self.events()
            )
            return ended or any(asked)

        wait_until(polls, seconds)
        assert worker.process.poll() is None, self.logs()

    def wait_until_drained(self, seconds: float = STALLED_SECONDS) -> None:
        """Wait until the queue holds nothing, visible or hidden, for a whole second.

        However slow the machine is: fails once so many seconds have passed in which no message
        left the queue for good.
        """
        looks, least, progress_at = 0, self.left_in_queue(), time.monotonic()
        # Between a killed client's poll and its message's return the server counts neither.
        while looks < EMPTY_LOOKS and self._some_are_running():
            time.sleep(0.2)
            left = self.left_in_queue()
            looks = looks + 1 if left == 0 else 0
            if left < least:
                least, progress_at = left, time.monotonic()
            if time.monotonic() > progress_at + seconds:
                break
        assert looks >= EMPTY_LOOKS, f"nothing done in {seconds:g} s; {self.logs()}"

    def wait_until_left(self, most: int, seconds: float = 120.0) -> None:
        """Wait until the queue holds no more than so many messages, visible or hidden."""
        wait_until(lambda: self.left_in_queue() <= most or not self._some_are_running(), seconds)
        assert self.left_in_queue() <= most, f"more left after {seconds:g} s; {self.logs()}"

    def wait_until_unmarked(self, seconds: float = 3.0 * HORIZON_SECONDS) -> None:
        """Wait until the sweepers of running workers have confirmed every product."""
        engine = sqlalchemy.create_engine(self.database_url)
        marked = sqlalchemy.text("SELECT count(*) FROM products WHERE check_after IS NOT NULL")

        def are_confirmed() -> bool:
            time.sleep(0.2)
            with engine.connect() as connection:
                return connection.execute(marked).scalar_one() == 0

        wait_until(are_confirmed, seconds)
        engine.dispose()

    def stop(self, *workers: Worker) -> None:
        """SIGTERM all of them; each must end with 0."""
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
        codes = [self.wait_for_exit(worker) for worker in workers]
        assert codes == [0] * len(workers), self.logs()

    def _some_are_running(self) -> bool:
        return any(worker.process.poll() is None for worker in self._workers)

    def events(self) -> list[Event]:
        return read_history(self.history_path)

    def hidden_in_queue(self) -> int:
        """Messages that were received and neither settled nor shown again."""
        name = "ApproximateNumberOfMessagesNotVisible"
        reply = self.sqs.get_queue_attributes(QueueUrl=self.queue_url, AttributeNames=[name])
        return int(reply["Attributes"][name])

    def verdict(
        self,
        *,
        marks_are_due: bool = False,
        marks_are_fresh: bool = False,
        answers_were_lost: bool = False,
    ) -> list[Violation]:
        """Read every store with independent clients and judge the whole history.

        ``answers_were_lost``: the queue may have taken a rejected message's copy without the worker
        knowing, which then sends another: copies may repeat, as after a kill.
        """
        state = self._read(self.database_url)
        state.keywords = read_elasticsearch(self.search_client, self.name)
        case = Case(
            self.events(),
            self.sent,
            state,
            picture_vectors=self.picture_vectors,
            may_repeat_dead_letters=self.was_killed or answers_were_lost,
            marks_are_due=marks_are_due,
            marks_are_fresh=marks_are_fresh,
        )
        return violations(case)

    def verdict_on_disk(self, data_dir: Path) -> list[Violation]:
        """The same for a worker whose ledger and keyword search are files."""
        state = self._read(f"sqlite:///{data_dir / 'products.db'}")
        state.keywords = read_sqlite_search(data_dir / "search.db")
        stores = ("milvus", "sqlite_search")
        return violations(Case(self.events(), self.sent, state, stores, self.picture_vectors))

    def _read(self, database_url: str) -> FinalState:
        state = FinalState(waiting=self.left_in_queue())
        read_ledger(database_url, state)
        state.vectors = read_milvus(self.vector_client, self.name)
        state.dead_letters = [
            (letter.get("message_id", ""), letter.get("reason", ""))
            for letter in self.dead_letters()
        ]
        return state

    def unexpected_errors(self) -> list[str]:
        """What any worker took for a bug, and so blamed on the message it had in hand."""
        lines = (line for worker in self._workers for line in worker.log.splitlines())
        return [line for line in lines if "unexpected:" in line]

    def logs(self) -> str:
        """The end of every worker's log, for a failed assertion."""
        return "\n".join(f"--- {each.log_path.name}\n{each.log[-1500:]}" for each in self._workers)

    @contextlib.contextmanager
    def observed(self) -> Iterator[None]:
        """Look at the revisions in ledger and search all the time; for I3."""
        stopping = threading.Event()
        arguments = (stopping, self.history, self.database_url, self.search_client, self.name)
        observer = threading.Thread(target=observe, args=arguments, daemon=True)
        observer.start()
        try:
            yield
        finally:
            stopping.set()
            observer.join(10)

    def _note_of(self, worker: Worker, kind: str) -> None:
        line = Event(time.monotonic(), worker.process.pid, kind)
        self.history.note(kind, at=line.at, process=line.process)

    def _draw(self, number: int) -> Any:
        colour = tuple(random.Random(number).randrange(256) for _ in range(3))
        path = self.images / f"{number}.png"
        path.write_bytes(factories.png_bytes((32, 24), colour))
        with Image.open(path) as picture:
            return picture_vector(picture.convert("RGB").tobytes())

    def _settings(self) -> dict[str, str]:
        proxies = self.proxies
        queue = proxies["queue"].in_front_of
        return {
            "AWS_ENDPOINT_URL": queue(self._servers.sqs),
            "SQS_QUEUE_URL": queue(self.queue_url),
            "SQS_DEAD_LETTER_QUEUE_URL": queue(self.dead_letter_url),
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
    """Keep two workers running and send the messages a portion at a time; after each portion kill
    one of the two, 0.3 to 3 s after it began to receive. Return those alive in the end.
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
        # A process that still loads its interpreter would not end with 0 when asked to stop.
        world.wait_until_polling(worker)
    return workers
