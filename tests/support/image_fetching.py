"""A fetcher of images for tests, and checks of its results."""

from collections.abc import Sequence
from ipaddress import ip_network
from typing import Any

from product_consumer.errors import ImageRejected, ImageUnavailable, ProductConsumerError
from product_consumer.images.download import FetchedImage, ImageRequest, NotModified
from product_consumer.images.fetcher import ImageFetcher
from tests.support.hostile_server import (
    HostileServer,
)

TIMEOUT_SECONDS = 1.0
MAX_BYTES = 200_000
IMAGE_BYTES = b"\xff\xd8\xff image"


def make_fetcher(*servers: HostileServer, **changes: Any) -> ImageFetcher:
    """Return a fetcher that reaches exactly these servers; ``changes`` go to its constructor."""
    options: dict[str, Any] = {
        "allowed_networks": [ip_network(server.host) for server in servers],
        "allowed_ports": {80, 443} | {server.port for server in servers},
        "timeout_seconds": TIMEOUT_SECONDS,
        "max_bytes": MAX_BYTES,
        "missing_grace_seconds": 120,
    }
    return ImageFetcher(**options | changes)


def fetch(server: HostileServer, path: str, **changes: Any) -> bytes | ProductConsumerError:
    return fetch_url(make_fetcher(server, **changes), server.url(path))


def bodies(fetcher: ImageFetcher, urls: Sequence[str]) -> list[bytes | ProductConsumerError]:
    """Fetch without conditions; return the bytes of each image, or its error."""
    results: list[bytes | ProductConsumerError] = []
    for result in fetcher.fetch_all([ImageRequest(url) for url in urls]):
        assert not isinstance(result, NotModified)
        results.append(result.data if isinstance(result, FetchedImage) else result)
    return results


def fetch_url(fetcher: ImageFetcher, url: str) -> bytes | ProductConsumerError:
    try:
        return bodies(fetcher, [url])[0]
    finally:
        fetcher.close()


def assert_rejected(result: object, reason: str) -> None:
    assert isinstance(result, ImageRejected), result
    assert result.reason == reason


def assert_retried(
    result: object, reason: str, *, attempts: int | None = None, final: str | None = None
) -> None:
    assert isinstance(result, ImageUnavailable), result
    assert result.reason == reason
    assert result.max_attempts == attempts
    assert result.final_reason == (final or f"retries_exhausted:{reason}")
