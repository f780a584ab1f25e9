"""The buffer of a channel, and the leases of what was received from it."""

import threading

from product_consumer.queues.rabbitmq.amqp.client import Properties
from product_consumer.queues.rabbitmq.amqp.deliveries import (
    MAX_LEASE_SECONDS,
    Deliveries,
    Delivery,
)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def delivery(tag: int) -> Delivery:
    return Delivery("me", 1, tag, b"", Properties(), False)


def filled(count: int, clock: Clock, lease_seconds: float = 30.0) -> Deliveries:
    deliveries = Deliveries(lease_seconds, clock)
    for tag in range(1, count + 1):
        deliveries.add(delivery(tag))
    return deliveries


def tags(deliveries: list[Delivery]) -> list[int]:
    return [each.tag for each in deliveries]


def test_what_was_delivered_first_is_taken_first() -> None:
    deliveries = filled(5, Clock())

    assert tags(deliveries.take(3, 0)) == [1, 2, 3]
    assert tags(deliveries.take(3, 0)) == [4, 5]
    assert deliveries.take(3, 0) == []


def test_a_thread_that_waits_is_woken_by_a_delivery() -> None:
    deliveries = Deliveries(30.0)
    taken: list[Delivery] = []
    thread = threading.Thread(target=lambda: taken.extend(deliveries.take(1, 30)))
    thread.start()
    assert deliveries.add(delivery(1))
    deliveries.wake()
    thread.join(10)

    assert tags(taken) == [1]


def test_deliveries_that_come_together_are_told_once() -> None:
    deliveries = Deliveries(30.0)

    assert [deliveries.add(delivery(tag)) for tag in (1, 2, 3)] == [True, False, False]
    deliveries.wake()
    assert deliveries.add(delivery(4))


def test_a_receipt_settles_once() -> None:
    deliveries = filled(1, Clock())
    [taken] = deliveries.take(1, 0)

    assert tags(deliveries.settle([taken.receipt])) == [1]
    assert deliveries.settle([taken.receipt, "9:9", "nonsense"]) == []


def test_two_objects_give_no_receipt_that_is_equal() -> None:
    assert Deliveries(1).origin != Deliveries(1).origin


def test_what_nobody_extends_is_given_back_in_order() -> None:
    clock = Clock()
    deliveries = filled(3, clock)
    deliveries.take(3, 0)
    assert deliveries.extend(["me:1:2"], 60) == set()
    clock.now += 30

    assert tags(deliveries.take_overdue()) == [1, 3]
    assert deliveries.extend(["me:1:1", "me:1:2"], 60) == {"me:1:1"}


def test_a_lease_ends_for_good_some_day() -> None:
    clock = Clock()
    deliveries = filled(1, clock)
    deliveries.take(1, 0)
    for _ in range(int(MAX_LEASE_SECONDS / 10) - 1):
        clock.now += 10
        deliveries.extend(["me:1:1"], 30)
        assert deliveries.take_overdue() == []
    clock.now += 10

    assert tags(deliveries.take_overdue()) == [1]


def test_a_buffer_that_nobody_asks_for_is_given_back() -> None:
    clock = Clock()
    deliveries = filled(3, clock)
    deliveries.take(1, 0)
    clock.now += 1.9
    assert deliveries.take_buffer(2.0) == []
    clock.now += 0.1

    assert tags(deliveries.take_buffer(2.0)) == [2, 3]
    assert (deliveries.buffered_count, deliveries.held_count) == (0, 1)


def test_nothing_of_a_lost_channel_is_left() -> None:
    deliveries = filled(2, Clock())
    deliveries.take(1, 0)
    deliveries.forget()

    assert (deliveries.buffered_count, deliveries.held_count) == (0, 0)
    assert deliveries.settle(["me:1:1"]) == []
