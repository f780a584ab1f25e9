"""Pending checks and scans of the ledger on both of its databases."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from product_consumer.database.connection import Database
from product_consumer.ledger.ledger import Ledger
from product_consumer.ledger.pending_checks import DueCheck, PendingChecks
from product_consumer.ledger.rows import ProductChange
from product_consumer.ledger.scan import LedgerScan
from tests.support import factories

HORIZON = timedelta(seconds=300)


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'products.db'}"


@pytest.fixture
def database(ledger_url: str) -> Iterator[Database]:
    opened = Database(ledger_url, timeout_seconds=10, connections=12)
    yield opened
    opened.close()


@pytest.fixture
def ledger(database: Database) -> Ledger:
    opened = Ledger(database, repair_horizon_seconds=300)
    opened.setup()
    opened.claim_model("tiny/test", 768)
    return opened


@pytest.fixture
def checks(database: Database) -> PendingChecks:
    return PendingChecks(database, repair_horizon_seconds=300)


@pytest.fixture
def scan(database: Database) -> LedgerScan:
    return LedgerScan(database)


def record(ledger: Ledger, *product_ids: str, version: int = 1) -> None:
    ledger.record(
        [
            ProductChange(
                factories.product(id=product_id, version=factories.version(version)),
                factories.embeddings(),
            )
            for product_id in product_ids
        ]
    )


def later(minutes: float = 6) -> datetime:
    """After the horizon of what is recorded now."""
    return datetime.now(UTC) + timedelta(minutes=minutes)


def ids(due: list[DueCheck]) -> set[str]:
    return {check.product_id for check in due}


def test_nothing_is_due_before_the_horizon(ledger: Ledger, checks: PendingChecks) -> None:
    record(ledger, "a", "b")

    assert checks.claim(datetime.now(UTC), 100) == []
    assert checks.count() == 2


def test_a_claim_says_what_the_stores_should_have(ledger: Ledger, checks: PendingChecks) -> None:
    record(ledger, "a")
    record(ledger, "a", version=2)
    ledger.record([ProductChange(factories.tombstone("gone"), None)])
    now = later()

    assert set(checks.claim(now, 100)) == {
        DueCheck("a", 2, False, now + HORIZON),
        DueCheck("gone", 1, True, now + HORIZON),
    }


def test_a_claim_moves_the_checks_a_horizon_on(ledger: Ledger, checks: PendingChecks) -> None:
    record(ledger, "a")
    now = later()
    checks.claim(now, 100)

    assert checks.claim(now + HORIZON, 100) == []
    assert ids(checks.claim(now + HORIZON + timedelta(seconds=1), 100)) == {"a"}


def test_the_longest_due_are_claimed_first_and_no_more_than_asked_for(
    ledger: Ledger, checks: PendingChecks
) -> None:
    for product_id in ("z", "y", "x"):
        record(ledger, product_id)

    assert ids(checks.claim(later(), 2)) == {"z", "y"}


def test_a_checked_product_is_cleared(ledger: Ledger, checks: PendingChecks) -> None:
    record(ledger, "a", "b")
    due = {check.product_id: check for check in checks.claim(later(), 100)}
    checks.clear([due["a"]])

    assert checks.count() == 1
    assert ids(checks.claim(later(20), 100)) == {"b"}


def test_a_check_that_a_writer_has_set_meanwhile_stays(
    ledger: Ledger, checks: PendingChecks
) -> None:
    record(ledger, "a")
    due = checks.claim(later(), 100)
    record(ledger, "a")
    checks.clear(due)

    assert ledger.revisions(["a"]) == {"a": 1}
    assert checks.count() == 1


def test_a_check_of_a_later_revision_stays(ledger: Ledger, checks: PendingChecks) -> None:
    record(ledger, "a", version=2)
    [due] = checks.claim(later(), 100)
    checks.clear([DueCheck(due.product_id, due.revision - 1, due.deleted, due.check_after)])

    assert checks.count() == 1


def test_sweepers_at_once_never_take_the_same_products(
    ledger: Ledger, checks: PendingChecks
) -> None:
    record(ledger, *(f"p{number}" for number in range(60)))
    now, ready = later(), threading.Barrier(6)

    def claim(_number: int) -> set[str]:
        ready.wait(10)
        return ids(checks.claim(now, 10))

    with ThreadPoolExecutor(6) as pool:
        claimed = list(pool.map(claim, range(6)))

    assert sum(map(len, claimed)) == len(set().union(*claimed)) >= 10


def test_clearing_beside_writers_loses_no_check_and_blocks_nobody(
    ledger: Ledger, checks: PendingChecks
) -> None:
    names = [f"p{number}" for number in range(20)]
    record(ledger, *names)
    started = later()

    def sweep(turn: int) -> None:
        checks.clear(checks.claim(started + turn * 2 * HORIZON, 100))

    def write(turn: int) -> None:
        record(ledger, *(names if turn % 2 else reversed(names)), version=turn + 2)

    with ThreadPoolExecutor(4) as pool:
        work = [pool.submit(act, turn) for turn in range(10) for act in (sweep, write, write)]
        for future in work:
            future.result(30)
    record(ledger, *names, version=99)

    assert checks.count() == 20


def test_a_check_can_be_set_without_a_message(ledger: Ledger, checks: PendingChecks) -> None:
    record(ledger, "a", "b")
    checks.clear(checks.claim(later(), 100))
    checks.add(["a", "unknown"], datetime.now(UTC))

    assert ids(checks.claim(later(), 100)) == {"a"}


def test_hostile_ids_are_data_here_too(ledger: Ledger, checks: PendingChecks) -> None:
    hostile = ["'; DROP TABLE products;--", 'x\' or "1"="1', "%_", "₫" * 100]
    record(ledger, *hostile, "a")
    due = checks.claim(later(), 100)
    checks.clear([check for check in due if check.product_id in hostile])

    assert checks.count() == 1


def test_pages_go_through_all_ids_byte_by_byte_in_order(ledger: Ledger, scan: LedgerScan) -> None:
    names = ["a", "B", "Z", "ä", "₫", "a b", "a-b", "😀", "\ue000", "0"]
    record(ledger, *names)
    seen: list[str] = []
    while page := scan.ids_after(seen[-1] if seen else "", 3):
        seen += page

    assert seen == sorted(names)
    assert scan.count() == len(names)


def test_a_position_is_kept_by_name_until_it_is_cleared(ledger: Ledger, scan: LedgerScan) -> None:
    before = ledger.meta()
    scan.save_position("milvus", "a")
    scan.save_position("milvus", "b")

    assert scan.position("milvus") == "b"
    assert scan.position("elasticsearch") is None
    scan.clear_position("milvus")
    assert scan.position("milvus") is None
    assert ledger.meta() == before
