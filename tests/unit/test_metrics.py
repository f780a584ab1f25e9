"""What is counted, and that no message can flood or break it."""

from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from product_consumer.errors import LedgerUnavailable, StoreUnavailable
from product_consumer.metrics import MAX_LABEL_VALUES, Metrics
from product_consumer.outcomes import Rejected, Released, RetryLater, Stored
from product_consumer.pipeline.circuit_breaker import Breakers
from product_consumer.pipeline.context import new_context
from tests.support.factories import message


def samples(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    """Every sample of a scrape, by name and label values."""
    text = metrics.exposition("")[0].decode()
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_messages_are_counted_by_outcome_and_reason() -> None:
    metrics = Metrics()
    for outcome in (
        Stored("abc"),
        Rejected("validate", "json_invalid", "at 3"),
        RetryLater(5.0, "fetch_image", "http_503"),
        Released("milvus is unavailable: no answer from 10.0.0.1"),
    ):
        metrics.count_outcome(outcome, message())

    assert metrics.outcomes() == {
        ("stored", ""): 1,
        ("rejected", "json_invalid"): 1,
        ("retrylater", "http_503"): 1,
        ("released", "released"): 1,
    }
    assert metrics.finished() == 2


def test_the_age_of_a_stored_message_is_measured_from_its_sending() -> None:
    metrics = Metrics()
    metrics.count_outcome(Stored("a"), message(sent_at=datetime.now(UTC) - timedelta(hours=1)))
    found = samples(metrics)

    assert 3600 <= found["product_newest_message_age_seconds", ()] < 3660
    assert found["product_message_age_seconds_count", ()] == 1


def test_a_queue_whose_clock_is_ahead_gives_no_negative_age() -> None:
    metrics = Metrics()
    metrics.count_outcome(Stored("a"), message(sent_at=datetime.now(UTC) + timedelta(hours=1)))

    assert samples(metrics)["product_newest_message_age_seconds", ()] == 0


def test_a_message_that_was_not_stored_has_no_age() -> None:
    metrics = Metrics()
    metrics.count_outcome(RetryLater(1.0, "store", "x"), message())

    assert samples(metrics)["product_message_age_seconds_count", ()] == 0


def test_batch_sizes_are_kept() -> None:
    metrics = Metrics()
    for count in (0, 10, 10):
        metrics.count_received(count)
    metrics.observe_forward_pass(37)
    found = samples(metrics)

    assert metrics.received() == 20
    assert found["product_receive_batch_messages_bucket", ("0.0",)] == 1
    assert found["product_receive_batch_messages_count", ()] == 3
    assert found["product_forward_pass_items_sum", ()] == 37


def test_dead_letters_are_counted_by_reason() -> None:
    metrics = Metrics()
    metrics.count_dead_letter("missing:name")

    assert samples(metrics)["product_dead_letters_total", ("missing:name",)] == 1


def test_content_that_got_into_a_reason_becomes_no_label() -> None:
    metrics = Metrics()
    metrics.count_outcome(Rejected("validate", 'x"} 1\nfake_metric 2', ""))
    metrics.count_dead_letter("y" * 1000)

    assert metrics.outcomes() == {("rejected", "other"): 1}
    assert samples(metrics)["product_dead_letters_total", ("other",)] == 1


def test_the_number_of_reasons_has_a_limit() -> None:
    metrics = Metrics()
    for number in range(MAX_LABEL_VALUES + 50):
        metrics.count_outcome(Rejected("validate", f"reason_{number}", ""))

    assert len(metrics.outcomes()) == MAX_LABEL_VALUES + 1
    assert metrics.outcomes()["rejected", "other"] == 50


def test_flags_are_bounded_too() -> None:
    metrics = Metrics()
    metrics.count_flags(("price_zero", "bad\nflag"))
    found = samples(metrics)

    assert found["product_message_flags_total", ("price_zero",)] == 1
    assert found["product_message_flags_total", ("other",)] == 1


def test_breakers_show_which_part_is_down() -> None:
    context = new_context()
    context.stopping.set()
    metrics = context.metrics
    breakers = Breakers({"ledger": lambda: 1, "milvus": lambda: 1}, context)

    def fail() -> None:
        raise StoreUnavailable("milvus", "no answer")

    with pytest.raises(StoreUnavailable):
        breakers.call("milvus", fail)
    found = samples(metrics)

    assert found["product_breaker_open", ("milvus",)] == 1
    assert found["product_breaker_open", ("ledger",)] == 0
    assert metrics.down_dependencies() == ["milvus"]


def test_a_part_that_two_streams_share_is_down_when_one_says_so() -> None:
    metrics = Metrics()
    metrics.watch_breakers(lambda: {"ledger": True})
    metrics.watch_breakers(lambda: {"ledger": False, "redis": False})

    assert metrics.down_dependencies() == ["ledger"]


def test_marks_are_counted_at_most_once_for_scrapes_in_quick_succession() -> None:
    answers = iter([7])
    metrics = Metrics()
    metrics.watch_pending_checks(lambda: next(answers))

    assert [samples(metrics)["product_marks_waiting", ()] for _ in range(3)] == [7, 7, 7]


def test_a_ledger_that_is_down_leaves_the_other_metrics_alone() -> None:
    def fail() -> int:
        raise LedgerUnavailable("ledger", "no answer")

    metrics = Metrics()
    metrics.watch_pending_checks(fail)
    found = samples(metrics)

    assert ("product_marks_waiting", ()) not in found
    assert ("product_messages_received_total", ()) in found


def test_what_is_in_flight_is_added_up() -> None:
    metrics = Metrics()
    metrics.watch_in_flight(lambda: 3)
    metrics.watch_in_flight(lambda: 4)

    assert samples(metrics)["product_messages_in_flight", ()] == 7


def test_stages_are_timed_even_when_they_fail() -> None:
    context = new_context()
    with pytest.raises(ZeroDivisionError), context.stages.stage("embed"):
        raise ZeroDivisionError

    assert list(context.metrics.stage_seconds()) == ["embed"]


def test_deaths_are_counted() -> None:
    metrics = Metrics()
    metrics.count_thread_death()

    assert samples(metrics)["product_thread_deaths_total", ()] == 1
