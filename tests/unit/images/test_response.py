"""A response of an image server: taken in within limits, then judged."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_consumer.errors import ImageRejected, ImageUnavailable, ProductConsumerError
from product_consumer.images.response import (
    MAX_HEADER_BYTES,
    Response,
    refusal,
    retry_after_seconds,
)

MAX_BYTES = 200_000


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


def received(*lines: bytes, body: bytes = b"", max_bytes: int = MAX_BYTES) -> Response:
    """Return a response that has received these header lines and, unless refused, this body."""
    response = Response(max_bytes)
    if all(response.take_header_line(line + b"\r\n") for line in (*lines, b"")) and body:
        response.take_body(body)
    return response


def reason_of(error: ProductConsumerError | None) -> str:
    assert isinstance(error, ImageRejected | ImageUnavailable)
    return error.reason


def test_a_whole_response_has_status_headers_and_body() -> None:
    response = received(b"HTTP/1.1 200 OK", b"ETag: W/1", b"X-Caf\xc3\xa9:  a:b ", body=b"pixels")

    assert (response.status, response.body, response.refusal) == (200, b"pixels", None)
    assert response.headers["etag"] == "W/1"
    assert response.headers["x-café"] == "a:b"


def test_an_interim_response_leaves_no_trace() -> None:
    response = received(b"HTTP/1.1 103 Early Hints", b"ETag: early", b"HTTP/1.1 200 OK")

    assert (response.status, response.validators()) == (200, (None, None))


def test_a_trailer_is_no_header() -> None:
    response = received(b"HTTP/1.1 200 OK", body=b"pixels")
    assert response.take_header_line(b"ETag: late\r\n")

    assert response.headers.get("etag") is None


@pytest.mark.parametrize("line", [b"HTTP/1.1", b"HTTP/1.1 abc", b"HTTP/2", b"HTTP/1.1 99 x"])
def test_a_status_line_without_a_final_status_begins_nothing(line: bytes) -> None:
    assert received(line).status == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_leads_to_its_location(status: int) -> None:
    response = received(f"HTTP/1.1 {status} x".encode(), b"Location: /b.jpg")
    assert response.location == "/b.jpg"

    assert received(b"HTTP/1.1 200 OK", b"Location: /b.jpg").location == ""


@given(st.lists(st.integers(0, 50), max_size=12))
def test_a_body_is_taken_whole_or_refused_however_it_is_cut(lengths: list[int]) -> None:
    response = received(b"HTTP/1.1 200 OK", max_bytes=100)
    taken = [response.take_body(b"x" * length) for length in lengths]

    if sum(lengths) <= 100:
        assert (all(taken), len(response.body), response.refusal) == (True, sum(lengths), None)
    else:
        assert len(response.body) <= 100
        assert reason_of(response.refusal) == "image_too_large"


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (f"Content-Length: {MAX_BYTES}", None),
        (f"Content-Length: {MAX_BYTES + 1}", "image_too_large"),
        ("Content-Length: " + "9" * 40, "image_too_large"),
        ("Content-Length: -1", None),
        ("Content-Encoding: identity", None),
        ("Content-Encoding: gzip", "content_encoding"),
        ("X-Long: " + "x" * MAX_HEADER_BYTES, "image_headers"),
    ],
)
def test_a_header_may_end_the_response_before_its_body(header: str, reason: str | None) -> None:
    refused = received(b"HTTP/1.1 200 OK", header.encode()).refusal

    assert (None if refused is None else reason_of(refused)) == reason


@pytest.mark.parametrize(
    "coding",
    [
        *("gzip", "X-GZip", "br", "deflate", "zstd", "compress", "identity, gzip", "gzip, UTF-8"),
        *("aws-chunked,gzip", "gzip;q=1.0", '"gzip"', ",br"),
    ],
)
def test_a_body_in_a_coding_is_refused(coding: str) -> None:
    response = received(b"HTTP/1.1 200 OK", f"Content-Encoding: {coding}".encode())

    assert reason_of(response.refusal) == "content_encoding"


@pytest.mark.parametrize(
    "label",
    [
        *("Identity", "UTF-8", "utf8", "ISO-8859-1", "base64", "binary", "8bit", "aws-chunked"),
        *("none", "image/jpeg", "", ",", "UTF-8, base64", "identity, aws-chunked", "x-unknown"),
    ],
)
def test_a_body_with_a_label_that_is_no_coding_is_taken(label: str) -> None:
    header = f"Content-Encoding: {label}".encode()

    assert received(b"HTTP/1.1 200 OK", header, body=b"pixels").body == b"pixels"


def test_a_failure_may_announce_headers_that_refuse_an_image() -> None:
    response = received(b"HTTP/1.1 404 No", b"Content-Length: 999999999", b"Content-Encoding: br")

    assert response.refusal is None


def test_the_body_of_a_failure_is_dropped_up_to_a_limit() -> None:
    response = received(b"HTTP/1.1 404 No")
    chunk = b"x" * 16_384

    assert [response.take_body(chunk) for _ in range(5)] == [True] * 4 + [False]
    assert response.body == b""


PASSING = {202, 408, 420, 421, 423, 424, 425, 429, 430, 449, 499, *range(500, 600)}


@pytest.mark.parametrize("status", [*range(201, 207), *range(300, 600)])
def test_every_other_status_has_an_error_and_only_passing_ones_are_retried(status: int) -> None:
    error = refusal(status, {}, missing_grace_seconds=0)

    is_empty = status in (204, 205)
    assert isinstance(error, ImageUnavailable if is_empty or status in PASSING else ImageRejected)
    assert reason_of(error) == ("image_empty" if is_empty else f"http_{status}")


@pytest.mark.parametrize(
    ("status", "passes"), [(400, True), (409, True), (404, False), (304, False)]
)
def test_a_failure_passes_when_the_server_says_after_which_time(status: int, passes: bool) -> None:
    error = refusal(status, {"retry-after": "30"}, missing_grace_seconds=0)

    assert isinstance(error, ImageUnavailable if passes else ImageRejected)


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_missing_image_has_its_grace_in_two_halves(status: int) -> None:
    error = refusal(status, {}, missing_grace_seconds=120)

    assert isinstance(error, ImageUnavailable)
    assert (error.max_attempts, error.delay_seconds) == (3, 60)
    assert error.final_reason == f"http_{status}"


@pytest.mark.parametrize(
    ("etag", "is_kept"),
    [('"v1"', True), ('W/"v1"', True), ("x" * 512, True), ("x" * 513, False), ("é", False)],
)
def test_a_validator_is_kept_when_it_can_be_sent_back(etag: str, is_kept: bool) -> None:
    response = received(b"HTTP/1.1 200 OK", f"ETag: {etag}".encode())

    assert response.validators() == (etag if is_kept else None, None)


@pytest.mark.parametrize(
    ("age_seconds", "is_kept"), [(0, False), (1, False), (2, True), (3600, True), (-5, False)]
)
def test_a_date_is_a_validator_once_its_second_is_over(age_seconds: int, is_kept: bool) -> None:
    modified = datetime(2026, 11, 21, 14, 30, 5, tzinfo=UTC)
    dates = [
        format_datetime(moment, usegmt=True)
        for moment in (modified, modified + timedelta(0, age_seconds))
    ]
    response = received(
        b"HTTP/1.1 200 OK", f"Last-Modified: {dates[0]}".encode(), f"Date: {dates[1]}".encode()
    )

    assert response.validators() == (None, dates[0] if is_kept else None)
