"""The history checker, on small histories made by hand: it finds each breach, and no other."""

from dataclasses import replace
from typing import Any

from tests.faults.harness.checker import Case, broken, lost_leases, polls_while_down, violations
from tests.faults.harness.fake_embedder import text_embedding
from tests.faults.harness.final_state import FinalState, LedgerRow, StoredRow
from tests.faults.harness.recording import Event
from tests.faults.harness.workload import Sent, newest, poison, product, tombstone, workload

IMAGES = "http://images"
OLD, NEW = product("p", 1, IMAGES), product("p", 2, IMAGES)
BAD = poison("price_invalid", IMAGES)


def history(*steps: tuple[str, dict[str, Any]], process: int = 1) -> list[Event]:
    return [Event(at, process, kind, fields) for at, (kind, fields) in enumerate(steps, 1)]


def applied(message_id: str, message: Sent, revision: int) -> list[tuple[str, dict[str, Any]]]:
    """The events of a message that a worker handles without a fault."""
    about = {"products": [[message.product_id, message.version]], "refused": []}
    revisions = {message.product_id: revision}
    return [
        ("receive", {"messages": {message_id: 1}}),
        ("record", {"call": 1, **about}),
        ("record_done", {"call": 1, "revisions": revisions, **about}),
        ("write", {"call": 2, "store": "milvus", "revisions": revisions}),
        ("write_done", {"call": 2, "store": "milvus", "revisions": revisions, "refused": []}),
        ("write", {"call": 3, "store": "elasticsearch", "revisions": revisions}),
        (
            "write_done",
            {"call": 3, "store": "elasticsearch", "revisions": revisions, "refused": []},
        ),
        ("acknowledge", {"messages": [message_id]}),
    ]


def state_of(*messages: Sent, revision: int = 1) -> FinalState:
    last = newest(messages)["p"]
    row = StoredRow(revision, last.name, float(last.price), text_embedding(last.name))
    return FinalState(
        ledger={
            "p": LedgerRow(
                revision, last.version, last.payload_hash, last.deleted, last.name, last.price
            )
        },
        vectors={} if last.deleted else {"p": row},
        keywords={} if last.deleted else {"p": replace(row, text=None)},
        prices=[("p", sent.observed_at, sent.price) for sent in messages if not sent.deleted],
        reviews=[
            ("p", sent.observed_at, sent.rating, sent.reviews_count)
            for sent in messages
            if not sent.deleted
        ],
    )


def good_case() -> Case:
    steps = applied("m1", OLD, 1) + applied("m2", NEW, 2)
    state = state_of(OLD, NEW, revision=2)
    state.dead_letters = [("m3", "price_invalid")]
    return Case(history(*steps), {"m1": OLD, "m2": NEW, "m3": BAD}, state)


def test_a_good_history_breaks_nothing() -> None:
    assert violations(good_case()) == []


def test_a_message_that_nobody_settled_is_lost() -> None:
    case = good_case()
    events = [event for event in case.events if event.kind != "acknowledge"]
    assert broken(violations(replace(case, events=events))) == {"I1"}


def test_a_message_that_was_settled_and_left_nothing_is_lost() -> None:
    case = good_case()
    case.final.ledger.clear()
    assert "I1" in broken(violations(case))


def test_an_older_row_in_a_store_is_a_difference() -> None:
    case = good_case()
    case.final.vectors["p"] = replace(case.final.vectors["p"], revision=1)
    [violation] = violations(case)
    assert violation.invariant == "I2"
    assert violation.detail == "vectors: p: revision 1, the ledger has 2"


def test_another_names_embedding_is_a_difference() -> None:
    case = good_case()
    case.final.vectors["p"] = replace(case.final.vectors["p"], text=text_embedding("another"))
    assert broken(violations(case)) == {"I2"}


def test_a_deleted_product_that_a_store_still_has_is_a_difference() -> None:
    gone = tombstone("p", 2)
    case = Case(history(*applied("m", gone, 1)), {"m": gone}, state_of(gone))
    assert violations(case) == []
    case.final.keywords["p"] = StoredRow(1, "x", 1.0)
    assert broken(violations(case)) == {"I2"}


def test_a_deleted_product_without_its_newest_content_is_a_difference() -> None:
    gone = tombstone("p", 3)
    steps = applied("m1", gone, 1) + applied("m2", NEW, 2)
    case = Case(history(*steps), {"m1": gone, "m2": NEW}, state_of(gone, NEW, revision=2))
    assert broken(violations(case)) == {"I2"}
    case.final.ledger["p"] = replace(case.final.ledger["p"], name=NEW.name, price=NEW.price)
    assert violations(case) == []


def test_a_revision_that_decreases_is_found() -> None:
    case = good_case()
    reads: list[Event] = []
    for at, revision in ((100, 2), (101, 1)):
        reads.append(Event(at, 9, "observe", {"call": at, "source": "elasticsearch"}))
        about = {"call": at, "source": "elasticsearch", "revisions": {"p": revision}}
        reads.append(Event(at + 0.5, 9, "observed", about))
    assert broken(violations(replace(case, events=[*case.events, *reads]))) == {"I3"}


def test_two_reads_at_the_same_time_may_return_either_revision() -> None:
    case = good_case()
    reads = [
        Event(100, 8, "observe", {"call": 1, "source": "ledger"}),
        Event(101, 9, "observe", {"call": 1, "source": "ledger"}),
        Event(102, 9, "observed", {"call": 1, "source": "ledger", "revisions": {"p": 3}}),
        Event(103, 8, "observed", {"call": 1, "source": "ledger", "revisions": {"p": 2}}),
    ]
    assert violations(replace(case, events=[*case.events, *reads])) == []


def test_a_missing_and_a_repeated_history_row_are_found() -> None:
    missing, repeated = good_case(), good_case()
    missing.final.prices.pop()
    repeated.final.reviews.append(repeated.final.reviews[0])
    assert broken(violations(missing)) == {"I5"}
    assert broken(violations(repeated)) == {"I5"}


def test_a_wrong_reason_and_a_good_message_among_the_dead_are_found() -> None:
    wrong, good = good_case(), good_case()
    wrong.final.dead_letters = [("m3", "missing:name")]
    good.final.dead_letters.append(("m1", "unexpected:TypeError"))
    assert broken(violations(wrong)) == {"I6"}
    assert broken(violations(good)) == {"I6"}


def test_a_second_copy_is_forgiven_only_after_a_kill() -> None:
    case = good_case()
    case.final.dead_letters.append(("m3", "price_invalid"))
    assert broken(violations(case)) == {"I6"}
    assert violations(replace(case, may_repeat_dead_letters=True)) == []


def test_a_message_left_in_the_queue_is_found() -> None:
    case = good_case()
    case.final.waiting = 1
    assert broken(violations(case)) == {"I7"}


def test_checks_must_be_pending_first_and_made_later() -> None:
    case = good_case()
    assert broken(violations(replace(case, checks_are_pending=True))) == {"I7"}
    case.final.ledger["p"] = replace(case.final.ledger["p"], has_pending_check=True)
    assert violations(replace(case, checks_are_pending=True)) == []
    assert broken(violations(replace(case, checks_are_done=True))) == {"I7"}


def test_deleting_before_one_store_confirmed_is_found() -> None:
    case = good_case()
    events = [
        event
        for event in case.events
        if not (event.kind == "write_done" and event["store"] == "elasticsearch")
    ]
    violated = violations(replace(case, events=events))
    assert broken(violated) == {"I8"}
    assert "before elasticsearch confirmed" in violated[0].detail


def test_a_write_from_before_the_record_confirms_nothing() -> None:
    steps = applied("m", OLD, 1)
    writes, record = steps[3:7], steps[1:3]
    case = Case(history(steps[0], *writes, *record, steps[-1]), {"m": OLD}, state_of(OLD))
    assert broken(violations(case)) == {"I8"}


def test_a_lease_is_lost_only_while_its_holder_lives() -> None:
    first = Event(1, 1, "receive", {"messages": {"m": 1}})
    again = Event(3, 2, "receive", {"messages": {"m": 2}})
    killed = Event(2, 1, "killed")
    released = Event(2, 1, "release", {"messages": ["m"]})
    assert lost_leases([first, again]) == ["m was delivered again (2) while held"]
    assert lost_leases([first, killed, again]) == []
    assert lost_leases([first, released, again]) == []


def test_a_poll_while_a_store_is_known_to_be_down_is_found() -> None:
    failed = Event(1, 1, "write_failed", {"store": "milvus"})
    early, late = Event(2, 1, "poll", {}), Event(5, 1, "poll", {})
    other = Event(5, 2, "poll", {})
    events = [failed, early, late, other]
    assert polls_while_down(events, "milvus", since=0, until=9, grace_seconds=2) == [late]
    assert polls_while_down(events, "milvus", since=0, until=4, grace_seconds=2) == []
    assert polls_while_down(events, "milvus", since=2, until=9, grace_seconds=2) == []
    assert polls_while_down(events, "ledger", since=0, until=9, grace_seconds=2) == []


def test_the_workload_is_what_it_says() -> None:
    messages = workload(2000, IMAGES, seed=1)
    model = newest(messages)
    poisonous = [message for message in messages if message.poison]
    bodies = {message.body for message in messages if not message.poison}
    assert len(model) == 200
    assert len(poisonous) == 60
    assert len(messages) - len(poisonous) - len(bodies) == len(bodies) // 5
    assert any(message.deleted for message in model.values())
