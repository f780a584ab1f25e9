"""Every order of the steps of two messages for one product, with crashes and one late write.

The pipeline, the sweeper and the ledger are the real ones; ``interleaving/`` explains how they are
run. The second half of this file removes one precaution at a time and expects a violation.
"""

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from data_management import ProductPipeline
from product_consumer.models import Message
from product_consumer.sync import writer
from tests.faults.interleaving import planted_bugs
from tests.faults.interleaving.explorer import Explorer, Limits, Report
from tests.faults.interleaving.rig import Rig
from tests.faults.interleaving.runner import Runner
from tests.support import factories

pytestmark = pytest.mark.timeout(300)

EVERY_DELIVERY_TWICE = Limits(deliveries=(2, 2), late=1, sweeps=0, phases=0)
BESIDE_A_SWEEP = Limits(deliveries=(2, 1), late=1, sweeps=1, phases=1)
BETWEEN_SWEEPS = Limits(deliveries=(1, 1), late=1, sweeps=2, phases=2)
EVERYTHING = Limits(deliveries=(2, 2), late=1, sweeps=1, phases=1)


@pytest.fixture
def fast_directory() -> Iterator[Path]:
    """A directory in memory, where the system has such a place."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        yield Path(directory)


@pytest.fixture
def explore(
    fast_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Report]]:
    logging.disable(logging.CRITICAL)
    with contextlib.ExitStack() as closing:
        closing.callback(logging.disable, logging.NOTSET)

        def explore(
            limits: Limits,
            messages: tuple[Message, Message] | None = None,
            pipeline: type[ProductPipeline] = ProductPipeline,
            **types: Any,
        ) -> Report:
            rig = Rig(fast_directory, monkeypatch, **types)
            closing.callback(rig.close)
            return Explorer(rig, Runner(messages or two_versions(), pipeline), limits).explore()

        yield explore


def two_versions() -> tuple[Message, Message]:
    first, second = (
        factories.message(factories.body_text(id="p", name=f"v{number}", version=number))
        for number in (1, 2)
    )
    return first, second


def a_version_and_a_deletion() -> tuple[Message, Message]:
    deletion = '{"id": "p", "version": 2, "deleted": true}'
    return two_versions()[0], factories.message(deletion)


def a_deletion_and_a_version() -> tuple[Message, Message]:
    deletion = '{"id": "p", "version": 1, "deleted": true}'
    return factories.message(deletion), two_versions()[1]


@pytest.mark.parametrize(
    ("limits", "fewest_states"),
    [
        pytest.param(EVERY_DELIVERY_TWICE, 100_000, id="every_delivery_twice"),
        pytest.param(BESIDE_A_SWEEP, 50_000, id="beside_a_sweep"),
        pytest.param(BETWEEN_SWEEPS, 10_000, id="between_sweeps"),
        pytest.param(
            EVERYTHING,
            1_000_000,
            id="everything",
            marks=(pytest.mark.soak, pytest.mark.timeout(600)),
        ),
    ],
)
def test_no_order_of_steps_leaves_a_store_unlike_the_ledger(
    explore: Callable[..., Report], limits: Limits, fewest_states: int
) -> None:
    report = explore(limits)

    assert report.violation is None, str(report)
    # An explorer that stops early would find nothing, too.
    assert report.states > fewest_states


@pytest.mark.parametrize("messages", [a_version_and_a_deletion, a_deletion_and_a_version])
@pytest.mark.parametrize("limits", [BESIDE_A_SWEEP, BETWEEN_SWEEPS], ids=["beside", "between"])
def test_no_order_of_steps_brings_a_deleted_product_back_or_loses_a_later_one(
    explore: Callable[..., Report],
    limits: Limits,
    messages: Callable[[], tuple[Message, Message]],
) -> None:
    report = explore(limits, messages())

    assert report.violation is None, str(report)


def test_without_any_fault_checking_first_and_writing_later_leaves_the_older_one(
    explore: Callable[..., Report],
) -> None:
    report = explore(
        Limits(deliveries=(1, 1), late=0, sweeps=0, phases=0),
        pipeline=planted_bugs.ChecksThenWrites,
    )

    assert report.violation is not None
    assert "dies" not in str(report)


def test_acknowledging_what_is_stale_leaves_a_store_without_the_product(
    explore: Callable[..., Report],
) -> None:
    report = explore(EVERY_DELIVERY_TWICE, pipeline=planted_bugs.AcknowledgesStale)

    assert report.violation is not None
    assert "acknowledged undisturbed" in report.violation


def test_without_the_second_check_the_older_of_two_writers_wins(
    explore: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "newer_rows", planted_bugs.never_newer)
    report = explore(EVERY_DELIVERY_TWICE)

    assert report.violation is not None
    assert "no fault at all" in report.violation


def test_without_a_pending_check_nobody_repairs_a_late_write(
    explore: Callable[..., Report],
) -> None:
    report = explore(EVERY_DELIVERY_TWICE, ledger_type=planted_bugs.UncheckedLedger)

    assert report.violation is not None
    assert "milvus has" in report.violation


def test_clearing_a_check_that_was_added_meanwhile_leaves_a_late_write_for_good(
    explore: Callable[..., Report],
) -> None:
    report = explore(BESIDE_A_SWEEP, pending_checks_type=planted_bugs.ClearsBlindly)

    assert report.violation is not None
    assert "milvus has" in report.violation
