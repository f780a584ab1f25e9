"""Decides from a history, the tables and Redis whether orders were counted once.

I1  no order is lost: each message was acknowledged or dead-lettered
I3  the revisions in Redis never decrease, except when it was wiped
I4  every total in the ledger and in Redis is the model's over the distinct accepted orders
I6  the dead-letter queue and the list of rejected orders hold exactly the poison, and of orders
    with two contents the one that was not counted
I7  the queue is empty
I8  no message was deleted before the ledger and Redis had confirmed
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from tests.faults.harness.checker import Checks, Violation, run_checks
from tests.faults.harness.order_state import GLOBAL_KEY, OrderState, Row
from tests.faults.harness.orders import (
    CONFLICT,
    DECIMALS,
    DEFAULT_CURRENCY,
    SentOrder,
    Total,
    accepted,
    totals,
)
from tests.faults.harness.recording import Event

PREFIX = "order_"
_OF_PROCESSES = ("killed", "crash", "exit", "ledger_failed")


@dataclass(frozen=True, slots=True)
class OrderCase:
    """The input of a verdict. ``sent``: the messages of the order queue, by message id."""

    events: Sequence[Event]
    sent: Mapping[str, SentOrder]
    final: OrderState
    may_repeat_dead_letters: bool = False


def order_violations(case: OrderCase) -> list[Violation]:
    """Return the violations, a few per invariant; empty when every promise was kept."""
    checks: Checks[OrderCase] = (
        ("I1", _lost),
        ("I3", _backwards),
        ("I4", _totals),
        ("I6", _rejected),
        ("I7", _left_over),
        ("I8", _deleted_too_early),
    )
    return run_checks(checks, case, prefix="orders: ")


def order_events(events: Sequence[Event]) -> list[Event]:
    """The events of the order stream, with the names of the product stream's."""
    return [
        replace(event, kind=event.kind.removeprefix(PREFIX))
        for event in events
        if event.kind.startswith(PREFIX) or event.kind in _OF_PROCESSES
    ]


def _lost(case: OrderCase) -> Iterator[str]:
    settled = {message_id for message_id, _ in case.final.dead_letters}
    for event in order_events(case.events):
        if event.kind == "acknowledge":
            settled.update(
                message_id
                for message_id in event["messages"]
                if message_id in case.sent and not case.sent[message_id].poison
            )
    for message_id, message in case.sent.items():
        if message_id not in settled and case.final.waiting == 0:
            yield f"{message_id} ({message.body[:60]}) is gone"


def _backwards(case: OrderCase) -> Iterator[str]:
    """A read that began after another returned revision n must not return less than n."""
    known: dict[str, int] = {}
    floors: dict[int, dict[str, int]] = {}
    for event in order_events(case.events):
        if event.kind == "redis_wiped":
            # Recorded before and after: earlier reads, and a read under way, prove nothing now.
            known, floors = {}, {}
        elif event.kind == "observe":
            floors[event["call"]] = dict(known)
        elif event.kind == "observed" and event["call"] in floors:
            floor = floors.pop(event["call"])
            for key in floor.keys() - event["revisions"].keys():
                yield f"redis: {key} disappeared"
            for key, revision in event["revisions"].items():
                if revision < floor.get(key, 0):
                    yield f"redis: {key} went from revision {floor[key]} to {revision}"
                known[key] = max(known.get(key, 0), revision)


def _totals(case: OrderCase) -> Iterator[str]:
    final = case.final
    stored = [(order_id, minor) for order_id, (_, minor, _) in final.stored.items()]
    counted, problems = accepted(list(case.sent.values()), stored)
    yield from problems
    model = totals(counted)
    yield from _table("user_totals", _minor(model.users, -1), final.users)
    yield from _table("daily_totals", _minor(model.days, -1), final.days)
    yield from _table("user_daily_totals", _minor(model.users_days, -1), final.users_days)
    everyone = {(currency,): total for currency, total in model.everyone.items()}
    in_ledger = {(currency,): row for currency, row in final.everyone.items()}
    yield from _table("order_totals", _minor(everyone, -1), in_ledger)
    by_user: dict[str, dict[str, Total]] = defaultdict(dict)
    for (user_id, currency), total in model.users.items():
        by_user[f"user:{user_id}"][currency] = total
    expected = {key: _fields("order_count", "total_spend", row) for key, row in by_user.items()}
    if model.everyone:
        expected[GLOBAL_KEY] = _fields("total_orders", "total_revenue", model.everyone)
    yield from _redis(expected, final)


def _table(name: str, expected: Mapping[Any, Row], rows: Mapping[Any, Row]) -> Iterator[str]:
    for key in sorted(expected.keys() | rows.keys()):
        if expected.get(key) != rows.get(key):
            yield f"{name}: {key} has {rows.get(key)}, the model {expected.get(key)}"


def _minor(model: Mapping[Any, Total], currency_at: int) -> dict[Any, Row]:
    return {
        key: (total.count, int(total.spend.scaleb(DECIMALS[key[currency_at]])))
        for key, total in model.items()
    }


def _redis(expected: Mapping[str, Mapping[str, str]], final: OrderState) -> Iterator[str]:
    for key in sorted(expected.keys() | final.hashes.keys()):
        held = dict(final.hashes.get(key, {}))
        revision = held.pop("revision", None)
        if held != expected.get(key, {}):
            yield f"redis: {key} has {held}, the model {expected.get(key)}"
        elif revision != str(final.revisions.get(key)):
            yield f"redis: {key} is of revision {revision}, the ledger {final.revisions.get(key)}"


def _fields(count_name: str, money_name: str, by_currency: Mapping[str, Total]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for currency, total in {DEFAULT_CURRENCY: Total(), **by_currency}.items():
        suffix = "" if currency == DEFAULT_CURRENCY else f":{currency}"
        fields[f"{count_name}{suffix}"] = str(total.count)
        fields[f"{money_name}{suffix}"] = _money(total.spend, currency)
    return fields


def _money(amount: Decimal, currency: str) -> str:
    return str(amount.quantize(Decimal(1).scaleb(-DECIMALS[currency])))


def _expected_rejections(case: OrderCase) -> dict[str, str]:
    expected = {key: message.poison for key, message in case.sent.items() if message.poison}
    for message_id, message in case.sent.items():
        stored = case.final.stored.get(message.order_id)
        if not message.poison and stored is not None and stored[1] != message.minor:
            expected[message_id] = CONFLICT
    return expected


def _rejected(case: OrderCase) -> Iterator[str]:
    expected = _expected_rejections(case)
    copies = Counter(message_id for message_id, _ in case.final.dead_letters)
    for message_id, reason in set(case.final.dead_letters):
        if expected.get(message_id) != reason:
            yield f"{message_id} was rejected: {reason}, expected {expected.get(message_id)}"
    if case.final.waiting == 0:
        for message_id in expected.keys() - copies.keys():
            yield f"{message_id} is not there, expected {expected[message_id]}"
        if case.final.listed != expected:
            differing = set(case.final.listed.items()) ^ set(expected.items())
            yield f"the list of rejected orders differs: {sorted(differing)[:3]}"
    if not case.may_repeat_dead_letters:
        for message_id, count in copies.items():
            if count > 1:
                yield f"{message_id} is there {count} times"


def _left_over(case: OrderCase) -> Iterator[str]:
    if case.final.waiting:
        yield f"{case.final.waiting} messages are still in the queue"


def _deleted_too_early(case: OrderCase) -> Iterator[str]:
    processes: dict[int, list[Event]] = defaultdict(list)
    for event in order_events(case.events):
        processes[event.process].append(event)
        if event.kind != "acknowledge":
            continue
        for message_id in event["messages"]:
            message = case.sent.get(message_id)
            if message is not None and not message.poison:
                missing = _unconfirmed(message_id, message, processes[event.process])
                if missing:
                    yield f"{message_id} ({message.order_id}): {missing}"


def _unconfirmed(message_id: str, message: SentOrder, events: Sequence[Event]) -> str:
    """Return what was not confirmed to this process since it last received the message."""
    since: list[Event] = []
    for event in reversed(events):
        since.append(event)
        if event.kind == "receive" and message_id in event["messages"]:
            break
    else:
        return "deleted by a process that never received it"
    since.reverse()
    is_recorded = False
    begun: set[int] = set()
    written: set[str] = set()
    for event in since:
        if event.kind == "record_done" and message.order_id in event["orders"]:
            is_recorded = True
        elif event.kind == "write" and is_recorded:
            begun.add(event["call"])
        elif event.kind == "write_done" and event["call"] in begun:
            written.update(event["revisions"])
    if not is_recorded:
        return "deleted before the ledger counted it"
    missing = {f"user:{message.user_id}", GLOBAL_KEY} - written
    return f"deleted before Redis had {', '.join(sorted(missing))}" if missing else ""
