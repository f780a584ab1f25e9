"""The demo says what it needs."""

import sys

import pytest

from product_consumer.demo.opening import open_demo
from product_consumer.errors import ConfigurationError
from product_consumer.settings import Settings


def test_a_missing_development_dependency_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "product_consumer.demo.run", raising=False)
    monkeypatch.delitem(sys.modules, "product_consumer.demo.servers", raising=False)
    monkeypatch.setitem(sys.modules, "moto.server", None)

    with pytest.raises(ConfigurationError, match="requirements-dev"):
        open_demo(Settings(), None)
