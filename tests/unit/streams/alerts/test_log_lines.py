import logging
from collections import Counter

import pytest

from product_consumer.streams.alerts.alert import Alert
from product_consumer.streams.alerts.log_lines import LogAlerts


def test_an_alert_is_one_line_with_the_features_that_add_most(
    caplog: pytest.LogCaptureFixture,
) -> None:
    counted: Counter[str] = Counter()
    sink = LogAlerts(lambda result, number: counted.update({result: number}))
    features = {"a": 0.1, "b\nforged": 7.0, "c": 2.0, "d": 1.0}
    sink.put(Alert("id\r\n" + "x" * 500, 10.123, 4.0, features, "{}"))
    (line,) = caplog.messages
    assert line.startswith("Anomaly in id\\r\\nxxx")
    assert line.endswith(r"score 10.12, threshold 4.00 (b\nforged 7.0, c 2.0, d 1.0)")
    assert caplog.records[0].levelno == logging.WARNING
    assert counted == {"sent": 1}
