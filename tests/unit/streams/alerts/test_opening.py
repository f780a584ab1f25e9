from typing import Any

import pytest

from product_consumer.errors import ConfigurationError
from product_consumer.settings import Settings
from product_consumer.streams.alerts.alert import Alert
from product_consumer.streams.alerts.log_lines import LogAlerts
from product_consumer.streams.alerts.opening import open_sink
from product_consumer.streams.alerts.targets import Log, Webhook
from tests.support.hostile_server import HostileServer, reply


def settings(**values: Any) -> Settings:
    return Settings.model_validate(values)


def test_the_log_takes_alerts() -> None:
    assert isinstance(open_sink(Log(), settings(), lambda *_: None), LogAlerts)


@pytest.mark.parametrize("url", ["http://127.0.0.1/hook", "http://169.254.169.254/"])
def test_a_private_address_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"--alerts: .*ALERTS_ALLOWED_NETWORKS"):
        open_sink(Webhook(url), settings(), lambda *_: None)


@pytest.mark.parametrize("name", ["alerts_allowed_networks", "image_allowed_networks"])
def test_an_allowed_network_takes_alerts(name: str) -> None:
    counted: list[tuple[str, int]] = []
    with HostileServer({"/hook": reply(200)}) as server:
        target = Webhook(server.url("/hook"))
        sink = open_sink(
            target, settings(**{name: "127.0.0.0/8"}), lambda *one: counted.append(one)
        )
        sink.start()
        sink.put(Alert("id", 9.0, 4.0, {}, '{"kind": "anomaly"}'))
        sink.close()
    assert counted == [("sent", 1)]
    assert server.requests[0].endswith(b'{"kind": "anomaly"}')
