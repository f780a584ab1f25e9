"""An error becomes an outcome of its message, by its class and the message's deliveries."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_consumer.errors import (
    MAX_UNEXPECTED_ATTEMPTS,
    ConfigurationError,
    EmbeddingRejected,
    FatalError,
    IgnoreMessage,
    ImageRejected,
    ImageUnavailable,
    InvalidMessage,
    LedgerUnavailable,
    QueueUnavailable,
    RejectMessage,
    RetryMessage,
    StoreUnavailable,
)
from product_consumer.outcomes import Ignored, Outcome, Rejected, Released, RetryLater
from product_consumer.pipeline import error_policy
from tests.support.factories import message

MAX_ATTEMPTS = 8
RECEIVE_COUNTS = st.integers(min_value=1, max_value=1000)


def outcome_of(
    error: Exception, receive_count: int = 1, max_attempts: int = MAX_ATTEMPTS
) -> Outcome:
    delivered = message(receive_count=receive_count)
    return error_policy.outcome_of(error, delivered, "embed", max_attempts=max_attempts)


@pytest.mark.parametrize("kind", [RejectMessage, InvalidMessage, ImageRejected, EmbeddingRejected])
def test_a_permanent_error_rejects_at_the_first_delivery(kind: type[RejectMessage]) -> None:
    assert outcome_of(kind("odd", "seen: x")) == Rejected("embed", "odd", "seen: x")


def test_a_message_that_carries_nothing_is_ignored() -> None:
    assert outcome_of(IgnoreMessage("s3_test_event", "sent once")) == Ignored("s3_test_event")


@pytest.mark.parametrize(
    "error",
    [
        QueueUnavailable("queue", "no answer"),
        StoreUnavailable("milvus", "no answer"),
        LedgerUnavailable("ledger", "no answer"),
        ConfigurationError("DATABASE_URL", "no such database"),
    ],
)
@pytest.mark.parametrize("receive_count", [1, MAX_ATTEMPTS, 1000])
def test_a_dependency_that_is_down_never_counts_against_its_messages(
    error: Exception, receive_count: int
) -> None:
    assert outcome_of(error, receive_count) == Released(str(error))


def test_a_fatal_error_settles_nothing() -> None:
    fatal = FatalError("the device is lost")
    with pytest.raises(FatalError) as raised:
        outcome_of(fatal)
    assert raised.value is fatal


@given(receive_count=RECEIVE_COUNTS, max_attempts=st.integers(min_value=1, max_value=100))
def test_a_passing_failure_is_retried_until_its_deliveries_are_used_up(
    receive_count: int, max_attempts: int
) -> None:
    outcome = outcome_of(ImageUnavailable("http_503"), receive_count, max_attempts)

    assert isinstance(outcome, RetryLater if receive_count < max_attempts else Rejected)


def test_the_last_failure_says_that_retries_were_exhausted() -> None:
    outcome = outcome_of(RetryMessage("http_503", "busy"), MAX_ATTEMPTS)

    assert outcome == Rejected("embed", "retries_exhausted:http_503", "busy")


def test_an_error_may_have_a_limit_and_a_last_reason_of_its_own() -> None:
    error = ImageUnavailable("http_404", max_attempts=3, final_reason="http_404")

    assert isinstance(outcome_of(error, 2), RetryLater)
    assert outcome_of(error, 3) == Rejected("embed", "http_404", "http_404")


@pytest.mark.parametrize("delay_seconds", [0.0, 60.0])
def test_a_delay_that_the_error_names_is_kept(delay_seconds: float) -> None:
    error = ImageUnavailable("http_429", delay_seconds=delay_seconds)

    assert outcome_of(error, 5) == RetryLater(delay_seconds, "embed", "http_429")


@given(receive_count=st.integers(min_value=1, max_value=MAX_ATTEMPTS - 1))
def test_a_delay_that_nobody_names_grows_with_the_deliveries(receive_count: int) -> None:
    outcome = outcome_of(ImageUnavailable("image_timeout"), receive_count)

    assert isinstance(outcome, RetryLater)
    longest = min(900.0, 10.0 * 2**receive_count)
    assert longest / 2 <= outcome.delay_seconds <= longest


@given(receive_count=RECEIVE_COUNTS)
def test_a_bug_of_ours_is_tried_a_few_times_whatever_the_setting_says(receive_count: int) -> None:
    outcome = outcome_of(KeyError("x"), receive_count, max_attempts=1000)

    if receive_count < MAX_UNEXPECTED_ATTEMPTS:
        assert isinstance(outcome, RetryLater)
    else:
        assert outcome == Rejected("embed", "unexpected:KeyError", "'x'")


def test_a_bug_of_ours_is_logged_with_its_stage_and_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outcome_of(KeyError("x"))

    [record] = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "Unexpected error at embed")
    assert record.exc_info is not None


def test_an_expected_error_is_not_logged_here(caplog: pytest.LogCaptureFixture) -> None:
    for error in (InvalidMessage("json_invalid"), ImageUnavailable("http_503")):
        outcome_of(error)
    assert caplog.records == []
