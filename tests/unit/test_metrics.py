"""Metrics: counted as documented, and no message can flood or break them."""

from datetime import UTC, datetime, timedelta

import pytest

from product_consumer.errors import LedgerUnavailable, StoreUnavailable
from product_consumer.metrics import MAX_LABEL_VALUES, Metrics
from product_consumer.outcomes import Rejected, Released, RetryLater, Stored
from product_consumer.pipeline.circuit_breaker import Breakers
from product_consumer.pipeline.context import new_context
from tests.support.factories import message
from tests.support.metrics import finished, outcomes, received, samples, timed_stages


def test_messages_are_counted_by_outcome_and_reason() -> None:
    metrics = Metrics()
    for outcome in (
        Stored("abc"),
        Rejected("validate", "json_invalid", "at 3"),
        RetryLater(5.0, "fetch_image", "http_503"),
        Released("milvus is unavailable: no answer from 10.0.0.1"),
    ):
        metrics.count_outcome(outcome, message())

    assert outcomes(metrics) == {
        ("stored", ""): 1,
        ("rejected", "json_invalid"): 1,
        ("retrylater", "http_503"): 1,
        ("released", "released"): 1,
    }
    assert finished(metrics) == 2


def test_the_age_of_a_stored_message_is_measured_from_its_sending() -> None:
    metrics = Metrics()
    metrics.count_outcome(Stored("a"), message(sent_at=datetime.now(UTC) - timedelta(hours=1)))
    scraped = samples(metrics)

    assert 3600 <= scraped["product_newest_message_age_seconds", ()] < 3660
    assert scraped["product_message_age_seconds_count", ()] == 1


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
    scraped = samples(metrics)

    assert received(metrics) == 20
    assert scraped["product_receive_batch_messages_bucket", ("0.0",)] == 1
    assert scraped["product_receive_batch_messages_count", ()] == 3
    assert scraped["product_forward_pass_items_sum", ()] == 37


def test_dead_letters_are_counted_by_reason() -> None:
    metrics = Metrics()
    metrics.count_dead_letter("missing:name")

    assert samples(metrics)["product_dead_letters_total", ("missing:name",)] == 1


def test_content_that_got_into_a_reason_becomes_no_label() -> None:
    metrics = Metrics()
    metrics.count_outcome(Rejected("validate", 'x"} 1\nfake_metric 2', ""))
    metrics.count_dead_letter("y" * 1000)

    assert outcomes(metrics) == {("rejected", "other"): 1}
    assert samples(metrics)["product_dead_letters_total", ("other",)] == 1


def test_the_number_of_reasons_has_a_limit() -> None:
    metrics = Metrics()
    for number in range(MAX_LABEL_VALUES + 50):
        metrics.count_outcome(Rejected("validate", f"reason_{number}", ""))

    assert len(outcomes(metrics)) == MAX_LABEL_VALUES + 1
    assert outcomes(metrics)["rejected", "other"] == 50


def test_flags_are_bounded_too() -> None:
    metrics = Metrics()
    metrics.count_flags(("price_zero", "bad\nflag"))
    scraped = samples(metrics)

    assert scraped["product_message_flags_total", ("price_zero",)] == 1
    assert scraped["product_message_flags_total", ("other",)] == 1


def test_breakers_tell_which_dependency_is_down() -> None:
    context = new_context()
    context.stopping.set()
    metrics = context.metrics
    breakers = Breakers({"ledger": lambda: 1, "milvus": lambda: 1}, context)

    def fail() -> None:
        raise StoreUnavailable("milvus", "no answer")

    with pytest.raises(StoreUnavailable):
        breakers.call("milvus", "write", fail)
    scraped = samples(metrics)

    assert scraped["product_breaker_open", ("milvus",)] == 1
    assert scraped["product_breaker_open", ("ledger",)] == 0
    assert metrics.down_dependencies() == ["milvus"]


def test_a_dependency_that_two_streams_share_is_down_when_one_says_so() -> None:
    metrics = Metrics()
    metrics.watch_breakers(lambda: {"ledger": True})
    metrics.watch_breakers(lambda: {"ledger": False, "redis": False})

    assert metrics.down_dependencies() == ["ledger"]


def test_pending_checks_are_counted_at_most_once_for_scrapes_in_quick_succession() -> None:
    counts = iter([7])
    metrics = Metrics()
    metrics.watch_pending_checks(lambda: next(counts))

    assert [samples(metrics)["product_marks_waiting", ()] for _ in range(3)] == [7, 7, 7]


def test_a_ledger_that_is_down_leaves_the_other_metrics_alone() -> None:
    def fail() -> int:
        raise LedgerUnavailable("ledger", "no answer")

    metrics = Metrics()
    metrics.watch_pending_checks(fail)
    scraped = samples(metrics)

    assert ("product_marks_waiting", ()) not in scraped
    assert ("product_messages_received_total", ()) in scraped


def test_messages_in_flight_are_added_up() -> None:
    metrics = Metrics()
    metrics.watch_in_flight(lambda: 3)
    metrics.watch_in_flight(lambda: 4)

    assert samples(metrics)["product_messages_in_flight", ()] == 7


def test_stages_are_timed_even_when_they_fail() -> None:
    context = new_context()
    with pytest.raises(ZeroDivisionError), context.stages.stage("embed"):
        raise ZeroDivisionError

    assert timed_stages(context.metrics) == {"embed"}


def test_deaths_are_counted() -> None:
    metrics = Metrics()
    metrics.count_thread_death()

    assert samples(metrics)["product_thread_deaths_total", ()] == 1
