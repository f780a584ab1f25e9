"""Signals at chosen moments: in a long poll, a download, a forward pass, the start, an outage."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from tests.acceptance.world import Worker, wait_until
from tests.faults.harness.forked_workers import ForkServer
from tests.faults.harness.images import draw, embedding_of, png
from tests.faults.harness.workload import product
from tests.faults.harness.world import FaultWorld
from tests.support.hostile_server import HostileServer, reply, silence

pytestmark = pytest.mark.timeout(170, func_only=True)

LONG_LEASE = {"SQS_VISIBILITY_TIMEOUT_SECONDS": "60"}
SECOND_SIGNAL_SECONDS = 3.0
# A machine that runs four such tests at once stands still that long; a drain takes 25 s.
BUSY_SECONDS = 5.0
STOP_SECONDS = 30.0


class Moments:
    """Starts workers, and returns each when it has reached a certain moment."""

    def __init__(self, world: FaultWorld, fork_server: ForkServer, server: HostileServer) -> None:
        self.world = world
        self.fork_server = fork_server
        self.server = server
        self._down = contextlib.ExitStack()
        draw(world, (100,))
        world.image_embeddings[101] = embedding_of(png(101))
        self.settings = LONG_LEASE | {
            "IMAGE_ALLOWED_PORTS": f"{world.environment['IMAGE_ALLOWED_PORTS']},{server.port}"
        }

    def start(self, fault: str = "", **settings: str) -> Worker:
        # An open poll of a dead worker takes a message: with one thread no poll is open.
        return self.fork_server.start(self.world, fault, 1, settings=self.settings | settings)

    def in_a_long_poll(self) -> Worker:
        worker = self.start(SQS_WAIT_SECONDS="20")
        self.world.wait_until_polling(worker)
        return worker

    def in_a_download(self) -> Worker:
        self._down.close()
        worker = self.start()
        self.world.send_all([product("downloading", 1, self.server.url(""), image_number=101)])
        wait_until(lambda: self.server.connections > 0, 30)
        return worker

    def in_a_batch(self) -> Worker:
        worker = self.start("slow:during_embed:30")
        self.world.send_all([product("embedding", 1, self.world.images_url, image_number=100)])
        self.world.wait_for_event("slow")
        return worker

    def loading_the_model(self) -> Worker:
        seen = [event.kind for event in self.world.events()].count("slow")
        worker = self.start("slow:load_model:30")
        self.world.wait_for_event("slow", count=seen + 1)
        return worker

    def with_a_store_down(self) -> Worker:
        worker = self.start()
        self.world.wait_until_polling(worker)
        self._down.enter_context(self.world.proxies["milvus"].down())
        self.world.send_all([product("waiting", 1, self.world.images_url)])
        self.world.wait_for_event("write_failed")
        return worker

    def repair(self) -> None:
        """Let Milvus and the image server respond again."""
        self._down.close()
        self.server.routes["/101.png"] = reply(200, png(101))

    @property
    def all(self) -> list[Callable[[], Worker]]:
        return [
            self.in_a_batch,
            self.loading_the_model,
            self.with_a_store_down,
            self.in_a_download,
        ]


@pytest.fixture
def moments(world: FaultWorld, fork_server: ForkServer) -> Iterator[Moments]:
    with HostileServer({"/101.png": silence()}) as server:
        opened = Moments(world, fork_server, server)
        yield opened
        opened.repair()


def check_left_at(
    worker: Worker, world: FaultWorld, signals: int, code: int, seconds: float
) -> None:
    started = time.monotonic()
    for number in range(signals):
        time.sleep(0.3 * number)
        worker.send_signal(signal.SIGTERM)
    exit_code = world.wait_for_exit(worker, STOP_SECONDS + 5)
    took = time.monotonic() - started
    # Messages that failed before the end are delayed, as at any other time.
    delayed = worker.log.count("will retry message")
    wait_until(lambda: world.hidden_in_queue() == delayed, 2)

    # The first signal may have been enough.
    assert exit_code in (code, 0), worker.log
    assert took <= seconds + BUSY_SECONDS
    assert world.in_progress() == [], worker.log
    assert world.hidden_in_queue() == delayed, worker.log


def check_stop_everywhere(moments: Moments, signals: int, code: int, seconds: float) -> None:
    world = moments.world
    for moment in moments.all:
        check_left_at(moment(), world, signals, code, seconds)
    moments.repair()
    last = moments.start()
    world.wait_until_drained()
    world.stop(last)

    assert world.verdict() == []


def test_a_second_signal_ends_a_worker_within_three_seconds_wherever_it_is(
    moments: Moments,
) -> None:
    check_stop_everywhere(moments, signals=2, code=1, seconds=0.3 + SECOND_SIGNAL_SECONDS)


def test_a_second_signal_ends_a_long_poll(moments: Moments) -> None:
    worker = moments.in_a_long_poll()
    check_left_at(worker, moments.world, signals=2, code=1, seconds=0.3 + SECOND_SIGNAL_SECONDS)


@pytest.mark.soak
def test_one_signal_ends_a_worker_within_thirty_seconds_wherever_it_is(moments: Moments) -> None:
    check_stop_everywhere(moments, signals=1, code=0, seconds=STOP_SECONDS)


def test_messages_that_a_poll_returns_after_a_stop_are_released(
    world: FaultWorld, fork_server: ForkServer
) -> None:
    settings = LONG_LEASE | {"SQS_WAIT_SECONDS": "5"}
    stopping = fork_server.start(world, threads=1, settings=settings)
    world.wait_until_polling(stopping)
    stopping.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    world.send_all([product("late", 1, world.images_url)])
    code = world.wait_for_exit(stopping)
    hidden = world.hidden_in_queue()
    last = fork_server.start(world, settings=LONG_LEASE)
    world.wait_until_drained()
    world.stop(last)

    assert (code, hidden) == (0, 0)
    assert [event for event in world.events() if event.kind == "release_done"]
    assert world.verdict() == []
