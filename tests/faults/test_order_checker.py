"""The checker of orders, on small histories made by hand: it finds each breach, and no other."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from tests.faults.harness.checker import broken
from tests.faults.harness.order_checker import OrderCase, order_events, order_violations
from tests.faults.harness.order_state import OrderState
from tests.faults.harness.orders import (
    POISON,
    SentOrder,
    order,
    order_workload,
    poison_order,
    totals,
)
from tests.faults.harness.recording import Event

DAY = date(2024, 12, 1)
FIRST = SentOrder("{}", "", "ORD1", "U1", DAY, Decimal("0.29"), "USD")
SECOND = SentOrder("{}", "", "ORD2", "U1", DAY, Decimal("0.57"), "USD")
OTHER = replace(FIRST, spend=Decimal("0.30"))
BAD = poison_order("order_total", 1)
REVISIONS = {"user:U1": 2, "global:stats": 2}


def history(*steps: tuple[str, dict[str, Any]]) -> list[Event]:
    return [Event(at, 1, f"order_{kind}", fields) for at, (kind, fields) in enumerate(steps, 1)]


def counted(*steps: str) -> list[Event]:
    """The events of two orders that a worker counts without a fault, or only these of them."""
    events: dict[str, dict[str, Any]] = {
        "receive": {"messages": {"m1": 1, "m2": 1}},
        "record": {"call": 1, "orders": ["ORD1", "ORD2"]},
        "record_done": {"call": 1, "orders": ["ORD1", "ORD2"]},
        "write": {"call": 2, "store": "redis", "revisions": REVISIONS},
        "write_done": {"call": 2, "store": "redis", "revisions": REVISIONS},
        "acknowledge": {"messages": ["m1", "m2"]},
    }
    return history(*((kind, events[kind]) for kind in steps or events))


def good_state() -> OrderState:
    return OrderState(
        stored={"ORD1": ("U1", 29, "USD"), "ORD2": ("U1", 57, "USD")},
        users={("U1", "USD"): (2, 86)},
        days={("2024-12-01", "USD"): (2, 86)},
        users_days={("U1", "2024-12-01", "USD"): (2, 86)},
        everyone={"USD": (2, 86)},
        revisions=REVISIONS,
        hashes={
            "user:U1": stats_hash("order_count", "total_spend", 2, "0.86"),
            "global:stats": stats_hash("total_orders", "total_revenue", 2, "0.86"),
        },
    )


def stats_hash(count_name: str, money_name: str, count: int, money: str) -> dict[str, str]:
    return {
        count_name: "0",
        money_name: "0",
        f"{count_name}:USD": str(count),
        f"{money_name}:USD": money,
        "revision": "2",
    }


def broken_by(
    state: OrderState | None = None,
    sent: Mapping[str, SentOrder] | None = None,
    events: list[Event] | None = None,
    *,
    may_repeat_dead_letters: bool = False,
) -> set[str]:
    case = OrderCase(
        counted() if events is None else events,
        {"m1": FIRST, "m2": SECOND} if sent is None else sent,
        state or good_state(),
        may_repeat_dead_letters,
    )
    return broken(order_violations(case))


def test_a_good_history_breaks_nothing() -> None:
    assert broken_by() == set()


@pytest.mark.parametrize(
    "changes",
    [
        {"users": {("U1", "USD"): (2, 85)}},
        {"users": {("U1", "USD"): (3, 86)}},
        {"days": {}},
        {"users_days": {("U1", "2024-12-02", "USD"): (2, 86)}},
        {"everyone": {"USD": (2, 86), "EUR": (1, 1)}},
        {"stored": {"ORD1": ("U1", 29, "USD")}},
        {"hashes": {}},
        {"revisions": {"user:U1": 3, "global:stats": 2}},
    ],
)
def test_any_total_that_differs_from_the_model_is_found(changes: dict[str, Any]) -> None:
    assert broken_by(replace(good_state(), **changes)) == {"I4"}


def test_a_cent_too_little_in_redis_is_found() -> None:
    state = good_state()
    state.hashes["user:U1"]["total_spend:USD"] = "0.85"

    assert broken_by(state) == {"I4"}


def test_a_user_that_only_redis_knows_is_found() -> None:
    state = good_state()
    state.hashes["user:U9"] = stats_hash("order_count", "total_spend", 1, "1.00")

    assert broken_by(state) == {"I4"}


def test_a_message_that_nobody_settled_is_lost() -> None:
    events = [*counted("receive", "record", "record_done", "write", "write_done")]

    assert broken_by(events=events) == {"I1"}
    assert broken_by(replace(good_state(), waiting=2), events=events) == {"I7"}


def test_the_content_that_was_not_counted_must_be_rejected_as_a_conflict() -> None:
    sent = {"m1": FIRST, "m2": SECOND, "m3": OTHER}
    settled = [("m3", "order_conflict")]
    state = replace(good_state(), dead_letters=settled, listed=dict(settled))

    assert broken_by(state, sent) == set()
    assert broken_by(replace(state, dead_letters=[], listed={}), sent) == {"I1", "I6"}


def test_poison_must_be_rejected_for_its_reason_and_listed() -> None:
    sent = {"m1": FIRST, "m2": SECOND, "m3": BAD}
    settled = [("m3", "order_total")]
    state = replace(good_state(), dead_letters=settled, listed=dict(settled))

    assert broken_by(state, sent) == set()
    assert broken_by(replace(state, listed={}), sent) == {"I6"}
    assert broken_by(replace(state, dead_letters=[("m3", "unsupported")]), sent) == {"I6"}
    assert broken_by(replace(state, dead_letters=settled * 2), sent) == {"I6"}
    twice = replace(state, dead_letters=settled * 2)
    assert broken_by(twice, sent, may_repeat_dead_letters=True) == set()


def test_a_good_order_in_the_dead_letter_queue_is_found() -> None:
    assert broken_by(replace(good_state(), dead_letters=[("m1", "order_total")])) == {"I6"}


@pytest.mark.parametrize(
    "steps",
    [
        ("receive", "record", "record_done", "acknowledge"),
        ("receive", "record", "record_done", "write", "acknowledge"),
        ("receive", "write", "write_done", "record", "record_done", "acknowledge"),
        ("receive", "write", "record_done", "write_done", "acknowledge"),
        ("acknowledge",),
    ],
)
def test_deleting_before_ledger_and_redis_confirmed_is_found(steps: tuple[str, ...]) -> None:
    assert broken_by(events=counted(*steps)) == {"I8"}


def read(call: int, **revisions: int) -> list[tuple[str, dict[str, Any]]]:
    return [("observe", {"call": call}), ("observed", {"call": call, "revisions": revisions})]


def test_a_revision_that_falls_in_redis_is_found_unless_it_was_wiped() -> None:
    wiped: tuple[str, dict[str, Any]] = ("redis_wiped", {})
    falling = history(*read(1, U=2), *read(2, U=1))
    gone = history(*read(1, U=2), *read(2))
    after_a_wipe = history(*read(1, U=2), wiped, wiped, *read(2, U=1))
    during_a_wipe = history(*read(1, U=2), wiped, *read(2, U=1), wiped, *read(3))

    assert broken_by(events=[*counted(), *falling]) == {"I3"}
    assert broken_by(events=[*counted(), *gone]) == {"I3"}
    assert broken_by(events=[*counted(), *after_a_wipe]) == set()
    assert broken_by(events=[*counted(), *during_a_wipe]) == set()


def test_a_read_that_began_before_a_wipe_proves_nothing() -> None:
    begun, ended = read(2, U=5)
    wiped: tuple[str, dict[str, Any]] = ("redis_wiped", {})
    events = history(begun, wiped, wiped, ended, *read(3, U=1))

    assert broken_by(events=[*counted(), *events]) == set()


def test_the_two_streams_do_not_mix() -> None:
    events = [Event(1, 1, "acknowledge", {"messages": ["m1"]}), Event(2, 1, "killed")]

    assert [event.kind for event in order_events(events)] == ["killed"]


def test_the_model_adds_decimals_exactly() -> None:
    cents = [replace(FIRST, order_id=f"ORD{n}", spend=Decimal("0.10")) for n in range(10)]

    assert totals(cents).users["U1", "USD"].spend == Decimal("1.00")


def test_a_workload_has_duplicates_conflicts_and_every_poison() -> None:
    messages = order_workload(200, seed=1)
    by_id: dict[str, set[Decimal]] = {}
    for message in messages:
        by_id.setdefault(message.order_id, set()).add(message.spend)

    assert {message.poison for message in messages} == {"", *POISON}
    assert len(by_id) == 201
    assert sum(len(spends) == 2 for spends in by_id.values()) == 4
    assert len([message for message in messages if not message.poison]) == 244
    assert order(3, users=2) == order(3, users=2)
