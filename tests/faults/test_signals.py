"""Signals at chosen moments: in a long poll, a download, a forward pass, the start, an outage."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from tests.acceptance.world import Worker, wait_until
from tests.faults.harness.forked_workers import Nursery
from tests.faults.harness.images import draw, picture, vector_of
from tests.faults.harness.workload import product
from tests.faults.harness.world import Arena
from tests.support.hostile_server import HostileServer, reply, silence

pytestmark = pytest.mark.timeout(170, func_only=True)

LONG_LEASE = {"SQS_VISIBILITY_TIMEOUT_SECONDS": "60"}
SECOND_SIGNAL_SECONDS = 3.0
STOP_SECONDS = 30.0


class Moments:
    """Workers that are at a certain moment when they are returned."""

    def __init__(self, arena: Arena, nursery: Nursery, server: HostileServer) -> None:
        self.arena = arena
        self.nursery = nursery
        self.server = server
        self._down = contextlib.ExitStack()
        draw(arena, (100,))
        arena.picture_vectors[101] = vector_of(picture(101))
        self.settings = LONG_LEASE | {
            "IMAGE_ALLOWED_PORTS": f"{arena.environment['IMAGE_ALLOWED_PORTS']},{server.port}"
        }

    def start(self, fault: str = "", **settings: str) -> Worker:
        # A poll that a dead worker left open takes a message with it: one thread has none then.
        return self.nursery.start(self.arena, fault, 1, settings=self.settings | settings)

    def in_a_long_poll(self) -> Worker:
        worker = self.start(SQS_WAIT_SECONDS="20")
        self.arena.wait_until_polling(worker)
        return worker

    def in_a_download(self) -> Worker:
        self._down.close()
        worker = self.start()
        self.arena.send_all([product("downloading", 1, self.server.url(""), picture=101)])
        wait_until(lambda: self.server.connections > 0, 30)
        return worker

    def in_a_batch(self) -> Worker:
        worker = self.start("slow:amid_embed:30")
        self.arena.send_all([product("embedding", 1, self.arena.images_url, picture=100)])
        self.arena.wait_for_event("slow")
        return worker

    def loading_the_model(self) -> Worker:
        seen = [event.kind for event in self.arena.events()].count("slow")
        worker = self.start("slow:load_model:30")
        self.arena.wait_for_event("slow", count=seen + 1)
        return worker

    def with_a_store_down(self) -> Worker:
        worker = self.start()
        self.arena.wait_until_polling(worker)
        self._down.enter_context(self.arena.proxies["milvus"].down())
        self.arena.send_all([product("waiting", 1, self.arena.images_url)])
        self.arena.wait_for_event("write_failed")
        return worker

    def mend(self) -> None:
        """Everything answers again."""
        self._down.close()
        self.server.routes["/101.png"] = reply(200, picture(101))

    @property
    def all(self) -> list[Callable[[], Worker]]:
        return [
            self.in_a_batch,
            self.loading_the_model,
            self.with_a_store_down,
            self.in_a_download,
        ]


@pytest.fixture
def moments(arena: Arena, nursery: Nursery) -> Iterator[Moments]:
    with HostileServer({"/101.png": silence()}) as server:
        found = Moments(arena, nursery, server)
        yield found
        found.mend()


def check_left_at(worker: Worker, arena: Arena, signals: int, code: int, seconds: float) -> None:
    started = time.monotonic()
    for number in range(signals):
        time.sleep(0.3 * number)
        worker.send_signal(signal.SIGTERM)
    got = arena.wait_for_exit(worker, STOP_SECONDS + 5)
    took = time.monotonic() - started
    # What failed in passing before the end is put off, as at any other time.
    put_off = worker.log.count("will retry message")
    wait_until(lambda: arena.hidden_in_queue() == put_off, 2)

    # The first signal may have done it.
    assert got in (code, 0), worker.log
    assert took <= seconds
    assert arena.hidden_in_queue() == put_off, worker.log


def check_stop_everywhere(moments: Moments, signals: int, code: int, seconds: float) -> None:
    arena = moments.arena
    for moment in moments.all:
        check_left_at(moment(), arena, signals, code, seconds)
    moments.mend()
    last = moments.start()
    arena.wait_until_drained()
    arena.stop(last)

    assert arena.verdict() == []


def test_a_second_signal_ends_a_worker_within_three_seconds_wherever_it_is(
    moments: Moments,
) -> None:
    check_stop_everywhere(moments, signals=2, code=1, seconds=0.3 + SECOND_SIGNAL_SECONDS)


def test_a_second_signal_ends_a_long_poll(moments: Moments) -> None:
    worker = moments.in_a_long_poll()
    check_left_at(worker, moments.arena, signals=2, code=1, seconds=0.3 + SECOND_SIGNAL_SECONDS)


@pytest.mark.soak
def test_one_signal_ends_a_worker_within_thirty_seconds_wherever_it_is(moments: Moments) -> None:
    check_stop_everywhere(moments, signals=1, code=0, seconds=STOP_SECONDS)


def test_what_an_open_poll_returns_after_a_stop_is_released(arena: Arena, nursery: Nursery) -> None:
    settings = LONG_LEASE | {"SQS_WAIT_SECONDS": "5"}
    stopping = nursery.start(arena, threads=1, settings=settings)
    arena.wait_until_polling(stopping)
    stopping.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    arena.send_all([product("late", 1, arena.images_url)])
    code = arena.wait_for_exit(stopping)
    hidden = arena.hidden_in_queue()
    last = nursery.start(arena, settings=LONG_LEASE)
    arena.wait_until_drained()
    arena.stop(last)

    assert (code, hidden) == (0, 0)
    assert [event for event in arena.events() if event.kind == "release_done"]
    assert arena.verdict() == []
