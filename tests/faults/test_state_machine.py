"""Random histories of a few products: deliveries, crashes, timeouts and sweeps in any order.

The pipeline, the sweeper and the ledger are the real ones, run step by step. At the end the ledger
and both stores must be as if one worker had handled the same messages without a fault.
"""

import json
import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from data_management import ProductPipeline
from product_consumer.errors import StoreUnavailable
from product_consumer.models import Message, Product
from product_consumer.products.parser import ProductParser
from tests.faults.interleaving import planted_bugs
from tests.faults.interleaving.rig import Rig
from tests.faults.interleaving.runner import (
    STORES,
    Delivery,
    Result,
    Runner,
    Step,
    Sweep,
    Task,
)
from tests.support import factories

PRODUCTS = ("p1", "p2", "p3")
MAX_PROCESSES = 4
MAX_SWEEPS_TO_REPAIR = 3

numbers = st.integers(0, 1000)


class Process:
    """A delivery or a sweep under way, and its next step."""

    def __init__(self, runner: Runner, task: Task) -> None:
        self._runner = runner
        self._task = task
        self._results: list[Result] = []
        self.next = runner.next_step(task, [])

    def take(self, result: Result) -> None:
        self._results.append(result)
        self.next = self._runner.next_step(self._task, self._results)


class ProductMachine(RuleBasedStateMachine):
    """A random history of products; the test that runs it sets ``rig`` and ``pipeline``."""

    rig: ClassVar[Rig]
    pipeline: ClassVar[type[ProductPipeline]] = ProductPipeline

    def __init__(self) -> None:
        super().__init__()
        self.rig.empty()
        self.messages: list[Message] = []
        self.acknowledged: set[int] = set()
        self.runner = Runner(self.messages, self.pipeline)
        self.processes: list[Process] = []
        self.late: list[Step] = []
        self.down: set[str] = set()
        self.has_faults = False

    @initialize(has_faults=st.booleans())
    def choose(self, has_faults: bool) -> None:
        """Half of the histories have no fault: in them nothing may need a repair."""
        self.has_faults = has_faults

    @rule(
        product=st.sampled_from(PRODUCTS),
        version=st.integers(1, 6),
        hour=st.integers(0, 2),
        deleted=st.booleans(),
    )
    def send(self, product: str, version: int, hour: int, deleted: bool) -> None:
        """A message of a version and a time that need not agree."""
        number = len(self.messages)
        time = f"2026-11-21T1{hour}:00:00Z"
        body = factories.body_text(
            id=product,
            name=f"{product} message {number}",
            version=version,
            updated_at=time,
            price=f"{1000 + number} VND",
            reviews_count=number,
        )
        tombstone = json.dumps(
            {"id": product, "version": version, "updated_at": time, "deleted": True}
        )
        self.messages.append(factories.message(tombstone if deleted else body))

    @precondition(lambda self: self.messages and len(self.processes) < MAX_PROCESSES)
    @rule(first=numbers, second=numbers)
    def deliver(self, first: int, second: int) -> None:
        """One message or two, whether or not they were delivered before."""
        count = len(self.messages)
        self.begin(Delivery(tuple({first % count, second % count})))

    @precondition(lambda self: len(self.processes) < MAX_PROCESSES)
    @rule()
    def sweep(self) -> None:
        self.begin(Sweep(self.rig.clock.sweeping_at))

    @precondition(lambda self: self.processes)
    @rule(pick=numbers)
    def step(self, pick: int) -> None:
        self.advance(self.processes[pick % len(self.processes)])

    @precondition(lambda self: self.processes)
    @rule(pick=numbers, count=st.integers(2, 6))
    def several_steps(self, pick: int, count: int) -> None:
        process = self.processes[pick % len(self.processes)]
        for _ in range(count):
            if process in self.processes:
                self.advance(process)

    @precondition(lambda self: self.has_faults and self.processes)
    @rule(pick=numbers, is_under_way=st.booleans())
    def crash(self, pick: int, is_under_way: bool) -> None:
        process = self.processes.pop(pick % len(self.processes))
        if is_under_way and process.next is not None and process.next.is_write:
            self.late.append(process.next)

    @precondition(lambda self: self.has_faults and self.writing())
    @rule(pick=numbers, is_under_way=st.booleans())
    def time_out(self, pick: int, is_under_way: bool) -> None:
        process = self.writing()[pick % len(self.writing())]
        if process.next is not None and is_under_way:
            self.late.append(process.next)
        self.result(process, Result(StoreUnavailable("store", "timed out")))

    @precondition(lambda self: self.late)
    @rule(pick=numbers)
    def land(self, pick: int) -> None:
        self.rig.perform(self.late.pop(pick % len(self.late)))

    @precondition(lambda self: self.has_faults)
    @rule(store=st.sampled_from(STORES))
    def go_down_or_come_back(self, store: str) -> None:
        self.down ^= {store}

    @precondition(lambda self: not self.processes and not self.late)
    @rule()
    def pass_the_horizon(self) -> None:
        self.rig.clock.advance_beyond_the_horizon()

    @precondition(lambda self: not self.has_faults and not self.processes)
    @invariant()
    def nothing_needs_a_repair(self) -> None:
        rows = self.rig.ledger.rows(PRODUCTS)
        current = {key: row.revision for key, row in rows.items() if not row.deleted}
        for store in self.rig.stores.values():
            assert store.read_revisions(PRODUCTS) == current

    def writing(self) -> list[Process]:
        return [process for process in self.processes if process.next and process.next.is_write]

    def begin(self, task: Task) -> None:
        process = Process(self.runner, task)
        if process.next is not None:
            self.processes.append(process)

    def advance(self, process: Process) -> None:
        step = process.next
        if step is None:
            return
        if step.component == "queue":
            self.acknowledged.update(step.arguments[0])
            self.result(process, Result(None))
        elif step.component in self.down:
            self.result(process, Result(StoreUnavailable(step.component, "is down")))
        else:
            self.result(process, self.rig.perform(step))

    def result(self, process: Process, result: Result) -> None:
        process.take(result)
        if process.next is None:
            self.processes.remove(process)

    def teardown(self) -> None:
        self.drain()
        self.check_nothing_is_pending()
        self.check_all_hold_the_newest_messages()
        self.check_history_is_complete()

    def drain(self) -> None:
        """Finish all processes and late writes, then deliver and sweep the rest."""
        self.down.clear()
        self.finish()
        if not self.has_faults:
            self.nothing_needs_a_repair()
        while self.late:
            self.land(0)
        for position in range(len(self.messages)):
            if position not in self.acknowledged:
                self.begin(Delivery((position,)))
                self.finish()
        for _ in range(MAX_SWEEPS_TO_REPAIR):
            self.pass_the_horizon()
            self.sweep()
            self.finish()

    def finish(self) -> None:
        while self.processes:
            self.advance(self.processes[0])

    def check_nothing_is_pending(self) -> None:
        assert self.rig.pending_checks.count() == 0
        assert self.acknowledged == set(range(len(self.messages)))

    def check_all_hold_the_newest_messages(self) -> None:
        newest = _newest(self.parsed())
        rows = self.rig.ledger.rows(newest)
        assert {key: (row.deleted, row.last_update) for key, row in rows.items()} == {
            key: (product.deleted, product.observed_at) for key, product in newest.items()
        }
        contents = _newest(product for product in self.parsed() if not product.deleted)
        assert {key: row.name for key, row in rows.items() if row.name} == {
            key: product.name for key, product in contents.items()
        }
        names = {key: row.name for key, row in rows.items() if not row.deleted}
        for store in self.rig.stores.values():
            stored = {key: row for key, row in store.contents.items() if not row.deleted}
            assert {key: row.name for key, row in stored.items()} == names
            assert {key: row.revision for key, row in stored.items()} == {
                key: rows[key].revision for key in names
            }

    def check_history_is_complete(self) -> None:
        living = [product for product in self.parsed() if not product.deleted]
        for key in PRODUCTS:
            prices = [observation.price_minor for observation in self.rig.ledger.price_history(key)]
            reviews = [
                observation.reviews_count for observation in self.rig.ledger.review_history(key)
            ]
            of_this = [product for product in living if product.id == key]
            assert sorted(prices) == sorted(product.price_minor or 0 for product in of_this)
            assert sorted(reviews) == sorted(product.reviews_count or 0 for product in of_this)

    def parsed(self) -> list[Product]:
        parser = ProductParser(default_currency="VND", source_timezone="UTC")
        return [parser.parse(message) for message in self.messages]


def _newest(products: Iterable[Product]) -> dict[str, Product]:
    ordered = sorted(products, key=lambda product: (product.version, product.observed_at))
    return {product.id: product for product in ordered}


class PlantedMachine(ProductMachine):
    """A machine whose pipeline has a planted bug."""

    pipeline = planted_bugs.ChecksThenWrites


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    memory = Path("/dev/shm")
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        opened = Rig(Path(directory), monkeypatch)
        yield opened
        opened.close()
    logging.disable(logging.NOTSET)


ANY_TIME = settings(deadline=None, stateful_step_count=40, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(100, marks=pytest.mark.timeout(300)),
        pytest.param(2000, marks=[pytest.mark.soak, pytest.mark.timeout(1800)]),
    ],
)
def test_whatever_happens_ledger_and_stores_end_with_the_newest_messages(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(ProductMachine, "rig", rig, raising=False)

    run_state_machine_as_test(ProductMachine, settings=settings(ANY_TIME, max_examples=count))


def test_checking_first_and_writing_later_is_found(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ProductMachine, "rig", rig, raising=False)
    once = settings(
        ANY_TIME, max_examples=300, derandomize=True, database=None, phases=[Phase.generate]
    )

    with pytest.raises(AssertionError):
        run_state_machine_as_test(PlantedMachine, settings=once)
