"""One download: only a changed image is sent again."""

import pytest

from product_consumer.images.download import FetchedImage, FetchResult, ImageRequest, NotModified
from tests.support.hostile_server import (
    Behaviour,
    HostileServer,
    reply,
    send,
)
from tests.support.image_fetching import IMAGE_BYTES, assert_rejected, make_fetcher

MODIFIED = "Sat, 21 Nov 2026 14:30:05 GMT"


def fetch_known(behaviour: Behaviour, **validators: str) -> tuple[FetchResult, bytes]:
    """Send one request with validators; return its result and the bytes the server received."""
    with HostileServer({"/known": behaviour}) as server:
        fetcher = make_fetcher(server)
        [result] = fetcher.fetch_all([ImageRequest(server.url("/known"), **validators)])
        fetcher.close()
        return result, server.requests[0]


def test_the_validators_of_an_image_come_with_it() -> None:
    later = "Sat, 21 Nov 2026 14:30:08 GMT"
    headers = {"etag": '"v1"', "last_modified": MODIFIED, "date": later}
    result, request = fetch_known(reply(200, IMAGE_BYTES, **headers))

    assert result == FetchedImage(IMAGE_BYTES, '"v1"', MODIFIED)
    assert b"If-" not in request


@pytest.mark.parametrize("date", [MODIFIED, "Sat, 21 Nov 2026 14:30:06 GMT", "yesterday"])
def test_the_date_of_an_image_that_may_still_be_changing_is_no_validator(date: str) -> None:
    result, _ = fetch_known(reply(200, IMAGE_BYTES, last_modified=MODIFIED, date=date))

    assert result == FetchedImage(IMAGE_BYTES, None, None)


def test_a_known_image_is_requested_conditionally() -> None:
    result, request = fetch_known(reply(304), etag='W/"v1"', last_modified=MODIFIED)

    assert result == NotModified()
    assert b'If-None-Match: W/"v1"\r\n' in request
    assert f"If-Modified-Since: {MODIFIED}\r\n".encode() in request


def test_an_image_that_has_changed_is_sent_whole() -> None:
    result, _ = fetch_known(reply(200, IMAGE_BYTES, etag='"v2"'), etag='"v1"')

    assert result == FetchedImage(IMAGE_BYTES, '"v2"', None)


def test_not_modified_is_no_response_to_a_request_without_conditions() -> None:
    result, _ = fetch_known(reply(304))

    assert_rejected(result, "http_304")


@pytest.mark.parametrize("etag", ["x" * 600, "caf\u00e9", ""])
def test_a_validator_that_could_not_be_sent_back_is_not_kept(etag: str) -> None:
    data = f"HTTP/1.1 200 OK\r\nContent-Length: {len(IMAGE_BYTES)}\r\nETag: {etag}\r\n\r\n"
    result, _ = fetch_known(send(data.encode() + IMAGE_BYTES))

    assert result == FetchedImage(IMAGE_BYTES, None, None)
