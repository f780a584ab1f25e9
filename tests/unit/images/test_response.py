"""The answer of an image server, judged."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from hypothesis import given
from hypothesis import strategies as st

from product_consumer.images.response import retry_after_seconds


def test_retry_after_may_be_a_date() -> None:
    in_two_minutes = format_datetime(datetime.now(UTC) + timedelta(minutes=2), usegmt=True)

    delay = retry_after_seconds(in_two_minutes)

    assert delay is not None
    assert 60 < delay <= 120
    assert retry_after_seconds("Wed, 21 Oct 2015 07:28:00 GMT") is None


@given(st.text() | st.text("0123456789", min_size=1, max_size=6000))
def test_any_retry_after_is_a_bounded_delay_or_none(text: str) -> None:
    delay = retry_after_seconds(text)

    assert delay is None or 0 < delay <= 900
