"""Names and arguments of the queues that belong to a stream."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_consumer.queues.rabbitmq.topology import (
    dead_letter_queue,
    main_queue,
    retry_name_for,
    retry_names,
    retry_queue,
    stream_queue,
)


def test_there_is_a_retry_queue_for_each_magnitude() -> None:
    names = retry_names("products")

    assert (names[0], names[1], names[-1]) == (
        "products-retry-1",
        "products-retry-2",
        "products-retry-2048",
    )
    assert len(names) == 12


@pytest.mark.parametrize(
    ("seconds", "name"),
    [
        (0, "q-retry-1"),
        (1.9, "q-retry-1"),
        (2, "q-retry-2"),
        (900, "q-retry-512"),
        (1e6, "q-retry-2048"),
    ],
)
def test_a_delay_waits_in_the_queue_of_its_magnitude(seconds: float, name: str) -> None:
    assert retry_name_for("q", seconds) == name


@given(st.floats(0, 1e7))
def test_no_message_waits_behind_one_that_waits_twice_as_long(seconds: float) -> None:
    magnitude = int(retry_name_for("q", seconds).rpartition("-")[2])

    assert retry_name_for("q", seconds) in retry_names("q")
    assert magnitude <= max(seconds, 1)
    assert seconds < 2 * magnitude or magnitude == 2048


def test_dead_letters_of_every_queue_are_moved_only_once_they_are_safe() -> None:
    for queue in (main_queue("q"), retry_queue("q", "q-retry-1")):
        assert queue.arguments["x-dead-letter-strategy"] == "at-least-once"
        assert queue.arguments["x-overflow"] == "reject-publish"


def test_messages_go_where_they_belong() -> None:
    assert main_queue("q").arguments["x-dead-letter-routing-key"] == "q-dead-letter"
    assert dead_letter_queue("q").name == "q-dead-letter"
    assert retry_queue("q", "q-retry-1").arguments["x-dead-letter-routing-key"] == "q"


def test_the_queue_of_a_data_stream_has_no_arguments() -> None:
    assert stream_queue("image_queue").arguments == {}
