"""A web server of the test's own."""

from collections.abc import Iterator

import pytest

from tests.support.hostile_server import (
    HostileServer,
    reply,
)
from tests.support.image_fetching import PICTURE


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with HostileServer({"/ok": reply(200, PICTURE)}) as running:
        yield running
