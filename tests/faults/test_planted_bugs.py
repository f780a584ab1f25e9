"""Each bug that the harness can plant into a worker is found, by the promise that it breaks.

Without a bug the same scenario must break nothing: a checker that always complains proves nothing.
Those controls run with the soak.
"""

import signal
import time

import pytest

from tests.faults.harness.checker import broken, lost_leases, polls_while_down
from tests.faults.harness.order_world import OrderWorld
from tests.faults.harness.orders import order
from tests.faults.harness.workload import poison, product
from tests.faults.harness.world import VISIBILITY_SECONDS, FaultWorld

pytestmark = pytest.mark.timeout(90, func_only=True)

LONG_HORIZON = {"REPAIR_HORIZON_SECONDS": "300"}
CONTROL = pytest.param("", set(), marks=pytest.mark.soak, id="control")


def bug(name: str, *invariants: str) -> pytest.MarkDecorator:
    values = [pytest.param(name, set(invariants), id=name), CONTROL]
    return pytest.mark.parametrize(("bug", "expected"), values)


@bug("ack_before_write", "I8")
def test_deleting_before_the_stores_confirmed(
    world: FaultWorld, bug: str, expected: set[str]
) -> None:
    world.send_all([product(f"p{number}", 1, world.images_url) for number in range(10)])
    worker = world.start(bug)
    world.wait_until_drained()
    # The messages were deleted first: only a stop waits until they are stored.
    world.stop(worker)

    assert broken(world.verdict()) == expected


@bug("stale_ack", "I2", "I8")
def test_deleting_a_second_delivery_unseen(world: FaultWorld, bug: str, expected: set[str]) -> None:
    dying = world.start(fault="crash:after_record", settings=LONG_HORIZON)
    world.send_all([product("p", 1, world.images_url)])
    world.wait_for_crash(dying)
    worker = world.start(bug, settings=LONG_HORIZON)
    world.wait_until_drained()
    world.stop(worker)

    assert broken(world.verdict()) == expected


@bug("no_verify", "I2")
def test_not_verifying_after_a_write(world: FaultWorld, bug: str, expected: set[str]) -> None:
    slow = world.start(bug, fault="hold:milvus", threads=1, settings=LONG_HORIZON)
    world.send_all([product("p", 1, world.images_url)])
    world.wait_for_event("record_done")
    quick = world.start(bug, threads=1, settings=LONG_HORIZON)
    world.send_all([product("p", 2, world.images_url)])
    world.wait_for_event("acknowledge_done")
    world.history.release()
    world.wait_until_drained()
    world.stop(slow, quick)

    assert broken(world.verdict()) == expected


@bug("no_pending_check", "I7")
def test_writing_without_a_pending_check(world: FaultWorld, bug: str, expected: set[str]) -> None:
    world.send_all([product("p", 1, world.images_url)])
    worker = world.start(bug, settings=LONG_HORIZON)
    world.wait_until_drained()
    world.stop(worker)

    assert broken(world.verdict(checks_are_pending=True)) == expected


@bug("no_dedup", "I5")
def test_history_by_delivery_instead_of_event(
    world: FaultWorld, bug: str, expected: set[str]
) -> None:
    world.send_all([product("p", 1, world.images_url)] * 3)
    worker = world.start(bug)
    world.wait_until_drained()
    world.stop(worker)

    assert broken(world.verdict()) == expected


@bug("no_dedup", "I4")
def test_counting_orders_by_delivery_instead_of_id(
    order_world: OrderWorld, bug: str, expected: set[str]
) -> None:
    order_world.send_all([order(1, users=1)] * 3)
    worker = order_world.start(bug)
    order_world.wait_until_drained()
    order_world.stop(worker)

    assert broken(order_world.verdict()) == expected


@bug("float_money", "I4")
def test_adding_money_up_as_floats(order_world: OrderWorld, bug: str, expected: set[str]) -> None:
    order_world.send_all([order(number, users=3) for number in range(30)])
    worker = order_world.start(bug)
    order_world.wait_until_drained()
    order_world.stop(worker)

    assert broken(order_world.verdict()) == expected


@bug("ack_before_write", "I8")
def test_deleting_orders_before_redis_has_them(
    order_world: OrderWorld, bug: str, expected: set[str]
) -> None:
    order_world.send_all([order(number, users=3) for number in range(10)])
    worker = order_world.start(bug)
    order_world.wait_until_drained()
    order_world.stop(worker)

    assert broken(order_world.verdict()) == expected


@bug("reject_before_copy", "I1", "I6")
def test_deleting_poison_before_its_copy(world: FaultWorld, bug: str, expected: set[str]) -> None:
    world.send_all([poison("price_invalid", world.images_url)])
    where = "during_reject" if bug else "before_reject"
    dying = world.start(bug, fault=f"crash:{where}")
    world.wait_for_crash(dying)
    worker = world.start(bug)
    world.wait_until_drained()
    world.stop(worker)

    assert broken(world.verdict()) == expected


@bug("heartbeat_off_on_drain", "leases")
def test_no_heartbeat_while_draining(world: FaultWorld, bug: str, expected: set[str]) -> None:
    draining = world.start(bug, fault="hold:milvus", threads=1)
    world.send_all([product("p", 1, world.images_url)])
    world.wait_for_event("record_done")
    draining.send_signal(signal.SIGTERM)
    other = world.start()
    world.wait_until_polling(other)
    time.sleep(VISIBILITY_SECONDS + 1)
    world.history.release()
    world.wait_for_exit(draining)
    world.wait_until_drained()
    world.stop(other)

    assert bool(lost_leases(world.events())) == bool(expected)
    assert world.verdict() == []


@bug("read_closes_breaker", "polls")
def test_closing_a_breaker_without_a_write(world: FaultWorld, bug: str, expected: set[str]) -> None:
    worker = world.start(bug, fault="refuse:milvus", threads=2)
    world.wait_until_polling(worker)
    with world.history.refusing():
        since = time.monotonic()
        world.send_all([product("p", 1, world.images_url)])
        world.wait_for_event("write_failed")
        time.sleep(4)
        until = time.monotonic()
    world.wait_until_drained()
    world.stop(worker)

    polls = polls_while_down(world.events(), "milvus", since, until, grace_seconds=2)
    assert bool(polls) == bool(expected)
    assert world.verdict() == []


@bug("swallow_unknown", "I2", "I8")
def test_taking_a_bug_for_success(world: FaultWorld, bug: str, expected: set[str]) -> None:
    world.send_all([product("p", 1, world.images_url)])
    worker = world.start(bug, fault="raise:milvus" if bug else "", settings=LONG_HORIZON)
    world.wait_until_drained()
    world.stop(worker)

    assert broken(world.verdict()) == expected
