"""A thread may keep what it has received for so long, whatever it waits for."""

import threading

from product_consumer.pipeline.hold import HOLD_SECONDS, Hold
from product_consumer.queues.in_flight import MAX_HOLD_SECONDS


def test_a_thread_with_messages_has_the_time_that_is_left() -> None:
    now = [100.0]
    hold = Hold(60.0, clock=lambda: now[0])
    with hold.messages():
        now[0] += 20
        assert hold.remaining_seconds() == 40.0


def test_a_thread_without_messages_has_no_limit() -> None:
    hold = Hold(60.0)
    assert hold.remaining_seconds() == float("inf")
    with hold.messages():
        pass
    assert hold.remaining_seconds() == float("inf")


def test_each_thread_has_a_hold_of_its_own() -> None:
    hold = Hold(60.0)
    others: list[float] = []
    with hold.messages():
        thread = threading.Thread(target=lambda: others.append(hold.remaining_seconds()))
        thread.start()
        thread.join()

    assert others == [float("inf")]


def test_messages_stay_hidden_for_longer_than_a_thread_may_wait() -> None:
    assert MAX_HOLD_SECONDS > HOLD_SECONDS
