"""Decides from a history and the final state of the stores whether the promises were kept.

I1  no message is lost: each was acknowledged or dead-lettered, and each acknowledged one counts
I2  ledger, Milvus and search hold the rows of the sequential model, in one revision
I3  the revisions in ledger and search never decrease
I4  the totals of orders are right: order_checker.py decides that
I5  one history row per distinct event
I6  the dead-letter queue holds exactly the poison, with the right reasons
I7  the queue is empty; every product has a pending check until that check is made, and no longer
I8  no message was deleted before its last store had confirmed
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from product_consumer.vectors import Embedding
from tests.faults.harness.fake_embedder import text_embedding
from tests.faults.harness.final_state import FinalState, StoredRow
from tests.faults.harness.recording import Event
from tests.faults.harness.workload import Sent, newest, newest_content

_MAX_EXAMPLES = 5

Row = TypeVar("Row", bound=tuple[object, ...])
AnyCase = TypeVar("AnyCase")
Checks = Sequence[tuple[str, Callable[[AnyCase], Iterator[str]]]]
"""Each invariant and its check, which returns the violations in words."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise."""

    invariant: str
    detail: str


@dataclass(frozen=True, slots=True)
class Case:
    """The input of a verdict. ``sent``: the producer's messages, by message id."""

    events: Sequence[Event]
    sent: Mapping[str, Sent]
    final: FinalState
    stores: tuple[str, ...] = ("milvus", "elasticsearch")
    image_embeddings: Mapping[int, Embedding] | None = None
    may_repeat_dead_letters: bool = False
    """A worker that is killed after it sent a copy sends it again."""
    checks_are_done: bool = False
    checks_are_pending: bool = False
    """No repair horizon has passed since the first write, so every check is still pending."""


def violations(case: Case) -> list[Violation]:
    """Return the violations, a few per invariant; empty when every promise was kept."""
    checks: Checks[Case] = (
        ("I1", _lost),
        ("I2", _different),
        ("I3", _backwards),
        ("I5", _history),
        ("I6", _dead_letters),
        ("I7", _left_over),
        ("I8", _deleted_too_early),
    )
    return run_checks(checks, case)


def run_checks(checks: Checks[AnyCase], case: AnyCase, prefix: str = "") -> list[Violation]:
    """Return a few violations of each invariant, and how many more there are."""
    violated: list[Violation] = []
    for invariant, check in checks:
        details = list(check(case))
        examples = details[:_MAX_EXAMPLES]
        if len(details) > _MAX_EXAMPLES:
            examples.append(f"... and {len(details) - _MAX_EXAMPLES} more")
        violated += [Violation(invariant, prefix + detail) for detail in examples]
    return violated


def broken(violated: Iterable[Violation]) -> set[str]:
    """The invariants of these violations."""
    return {violation.invariant for violation in violated}


def lost_leases(events: Iterable[Event]) -> list[str]:
    """Messages that were delivered again while a living process held them."""
    holders: dict[str, int] = {}
    gone: set[int] = set()
    lost: list[str] = []
    for event in events:
        if event.kind in ("killed", "crash", "exit"):
            gone.add(event.process)
        elif event.kind in ("acknowledge", "release", "retry", "reject"):
            for message_id in event["messages"]:
                if holders.get(message_id) == event.process:
                    del holders[message_id]
        elif event.kind == "receive":
            for message_id, count in event["messages"].items():
                holder = holders.get(message_id)
                if holder is not None and holder not in gone:
                    lost.append(f"{message_id} was delivered again ({count}) while held")
                holders[message_id] = event.process
    return lost


def failures_of(events: Iterable[Event], dependency: str, since: float) -> list[Event]:
    """Calls that failed because a dependency, a store or ``ledger``, was down."""
    return [
        event
        for event in events
        if event.at >= since
        and (
            (event.kind == "write_failed" and event["store"] == dependency)
            or (event.kind == "ledger_failed" and dependency == "ledger")
        )
    ]


def polls_while_down(
    events: Sequence[Event], dependency: str, since: float, until: float, grace_seconds: float
) -> list[Event]:
    """Receives begun by a process later than ``grace_seconds`` after a call failed in it."""
    noticed: dict[int, float] = {}
    for event in failures_of(events, dependency, since):
        noticed.setdefault(event.process, event.at)
    return [
        event
        for event in events
        if event.kind == "poll"
        and noticed.get(event.process, until) + grace_seconds < event.at < until
    ]


def _lost(case: Case) -> Iterator[str]:
    settled = {message_id for message_id, _ in case.final.dead_letters}
    for event in case.events:
        if event.kind == "acknowledge":
            settled.update(key for key in event["messages"] if not _is_poison(case, key))
    for message_id, message in case.sent.items():
        if message_id not in settled:
            if case.final.waiting == 0:
                yield f"{message_id} ({message.body[:60]}) is gone"
        elif not message.poison and not _counts(case, message):
            yield f"{message_id} ({message.body[:60]}) was settled and left nothing"


def _is_poison(case: Case, message_id: str) -> bool:
    return message_id in case.sent and bool(case.sent[message_id].poison)


def _counts(case: Case, message: Sent) -> bool:
    row = case.final.ledger.get(message.product_id)
    if row is None:
        return False
    return (row.version, row.payload_hash) >= (message.version, message.payload_hash)


def _different(case: Case) -> Iterator[str]:
    model = newest(list(case.sent.values()))
    contents = newest_content(list(case.sent.values()))
    for product_id in sorted(model.keys() | case.final.ledger.keys()):
        if product_id not in model:
            yield f"ledger: {product_id} was never sent"
        elif product_id not in case.final.ledger:
            yield f"ledger: {product_id} is missing"
        else:
            yield from _ledger_row(case, model[product_id], contents.get(product_id))
    living = {key: message for key, message in model.items() if not message.deleted}
    for name, rows in (("vectors", case.final.vectors), ("keywords", case.final.keywords)):
        for product_id in sorted(living.keys() | rows.keys()):
            if product_id not in living:
                yield f"{name}: {product_id} should not be there"
            elif product_id not in rows:
                yield f"{name}: {product_id} is missing"
            else:
                problem = _stored_row(case, living[product_id], rows[product_id])
                if problem:
                    yield f"{name}: {product_id}: {problem}"


def _ledger_row(case: Case, message: Sent, content: Sent | None) -> Iterator[str]:
    row = case.final.ledger[message.product_id]
    got = (row.version, row.payload_hash, row.deleted)
    if got != (message.version, message.payload_hash, message.deleted):
        yield f"ledger: {message.product_id} has {got}, the newest is version {message.version}"
    elif content is not None and (row.name, row.price) != (content.name, content.price):
        yield f"ledger: {message.product_id} has {row.name!r} at {row.price}"


def _stored_row(case: Case, message: Sent, row: StoredRow) -> str:
    expected = case.final.ledger.get(message.product_id)
    if expected is not None and row.revision != expected.revision:
        return f"revision {row.revision}, the ledger has {expected.revision}"
    if (row.name, row.price) != (message.name, float(message.price)):
        return f"{row.name!r} at {row.price}, sent {message.name!r} at {message.price}"
    if row.text is not None and not _close(row.text, text_embedding(message.name)):
        return "the text embedding is another name's"
    image = (case.image_embeddings or {}).get(message.image_number)
    if row.image is not None and image is not None and not _close(row.image, image):
        return "the image embedding is another image's"
    return ""


def _close(embedding: Embedding, expected: Embedding) -> bool:
    # The ledger keeps float16.
    return bool(np.allclose(embedding, expected, atol=2e-3))


def _backwards(case: Case) -> Iterator[str]:
    """A call that began after another returned revision n must not return less than n."""
    known: dict[tuple[str, str], int] = defaultdict(int)
    floors: dict[tuple[int, int], dict[tuple[str, str], int]] = {}
    for event in case.events:
        if event.kind in ("record", "observe"):
            floors[event.process, event["call"]] = dict(known)
        elif event.kind in ("record_done", "observed"):
            source = event.fields.get("source", "ledger")
            floor = floors.pop((event.process, event["call"]), {})
            for product_id, revision in event["revisions"].items():
                if revision < floor.get((source, product_id), 0):
                    before = floor[source, product_id]
                    yield f"{source}: {product_id} went from revision {before} to {revision}"
                known[source, product_id] = max(known[source, product_id], revision)


def _history(case: Case) -> Iterator[str]:
    valid = [
        message for message in case.sent.values() if not message.poison and not message.deleted
    ]
    prices = {(message.product_id, message.observed_at, message.price) for message in valid}
    reviews = {
        (message.product_id, message.observed_at, message.rating, message.reviews_count)
        for message in valid
    }
    yield from _as_set("price_history", case.final.prices, prices)
    yield from _as_set("review_history", case.final.reviews, reviews)


def _as_set(table: str, rows: Sequence[Row], expected: set[Row]) -> Iterator[str]:
    counts = Counter(rows)
    for row in expected - counts.keys():
        yield f"{table}: {row} is missing"
    for row, count in counts.items():
        if row not in expected or count > 1:
            yield f"{table}: {row} is there {count} times, sent {int(row in expected)} times"


def _dead_letters(case: Case) -> Iterator[str]:
    expected = {key: message.poison for key, message in case.sent.items() if message.poison}
    copies = Counter(message_id for message_id, _ in case.final.dead_letters)
    for message_id, reason in set(case.final.dead_letters):
        if expected.get(message_id) != reason:
            yield f"{message_id} was rejected: {reason}, expected {expected.get(message_id)}"
    for message_id, reason in expected.items():
        if message_id not in copies and case.final.waiting == 0:
            yield f"{message_id} is not there, expected {reason}"
    if not case.may_repeat_dead_letters:
        for message_id, count in copies.items():
            if count > 1:
                yield f"{message_id} is there {count} times"


def _left_over(case: Case) -> Iterator[str]:
    if case.final.waiting:
        yield f"{case.final.waiting} messages are still in the queue"
    for product_id, row in case.final.ledger.items():
        if case.checks_are_done and row.has_pending_check:
            yield f"{product_id} still has a pending check"
        if case.checks_are_pending and not row.has_pending_check:
            yield f"{product_id} was written without a pending check"


def _deleted_too_early(case: Case) -> Iterator[str]:
    processes: dict[int, list[Event]] = defaultdict(list)
    for event in case.events:
        processes[event.process].append(event)
        if event.kind != "acknowledge":
            continue
        for message_id in event["messages"]:
            message = case.sent.get(message_id)
            if message is not None and not message.poison:
                missing = _unconfirmed(case, message_id, message, event, processes[event.process])
                if missing:
                    yield f"{message_id} ({message.product_id} {message.version}): {missing}"


def _unconfirmed(
    case: Case, message_id: str, message: Sent, deleted: Event, events: Sequence[Event]
) -> str:
    """Return what was not confirmed to this process since the deleting thread received the message.

    Another thread may have received it since. Empty when everything was confirmed.
    """
    thread = deleted.fields.get("thread")
    since: list[Event] = []
    for event in reversed(events):
        since.append(event)
        is_receive = event.kind == "receive" and event.fields.get("thread") == thread
        if is_receive and message_id in event["messages"]:
            break
    else:
        return "deleted by a process that never received it"
    since.reverse()
    needed: int | None = None
    begun: dict[int, Event] = {}
    confirmed: set[str] = set()
    for event in since:
        if event.kind == "record_done" and _records(event, message):
            # The first record decides: the stores must get its revision or a newer one.
            needed = event["revisions"][message.product_id] if needed is None else needed
        elif event.kind == "write" and needed is not None:
            begun[event["call"]] = event
        elif event.kind == "write_done" and event["call"] in begun and needed is not None:
            is_current = event["revisions"].get(message.product_id, 0) >= needed
            if is_current and message.product_id not in event["refused"]:
                confirmed.add(event["store"])
    if needed is None:
        return "deleted before the ledger recorded it"
    missing = sorted(set(case.stores) - confirmed)
    return f"deleted before {', '.join(missing)} confirmed" if missing else ""


def _records(event: Event, message: Sent) -> bool:
    products = event["products"]
    return [message.product_id, message.version] in [
        product for position, product in enumerate(products) if position not in event["refused"]
    ]
