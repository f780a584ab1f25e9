"""A web server for each test."""

from collections.abc import Iterator

import pytest

from tests.support.hostile_server import (
    HostileServer,
    reply,
)
from tests.support.image_fetching import IMAGE_BYTES


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with HostileServer({"/ok": reply(200, IMAGE_BYTES)}) as running:
        yield running
