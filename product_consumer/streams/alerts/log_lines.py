"""Alerts as lines of the log."""

import logging
from collections.abc import Callable

from product_consumer.streams.alerts.alert import Alert
from product_consumer.text import printable

log = logging.getLogger(__name__)

SHOWN_FEATURES = 3
_SHOWN_CHARACTERS = 60


class LogAlerts:
    """Writes a line for each alert. ``count``: called with ``sent`` and a number."""

    def __init__(self, count: Callable[[str, int], None]) -> None:
        self._count = count

    def start(self) -> None:
        """See ``AlertSink``."""

    def put(self, alert: Alert) -> None:
        """Write the line: no values, which may be private, only what they add to the score."""
        most = sorted(alert.features.items(), key=lambda item: -item[1])[:SHOWN_FEATURES]
        features = ", ".join(f"{_shown(name)} {share:.1f}" for name, share in most)
        log.warning(
            "Anomaly in %s: score %.2f, threshold %.2f (%s)",
            _shown(alert.correlation_id),
            alert.score,
            alert.threshold,
            features,
        )
        self._count("sent", 1)

    def close(self) -> None:
        """See ``AlertSink``."""


def _shown(text: str) -> str:
    return printable(text[:_SHOWN_CHARACTERS])
