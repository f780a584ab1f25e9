"""Target and settings -> the place that alerts go to. Queues are not here: stages have senders."""

from collections.abc import Callable

from product_consumer.errors import ConfigurationError, ImageRejected
from product_consumer.settings import Settings
from product_consumer.streams.alerts.alert import AlertSink
from product_consumer.streams.alerts.background import BackgroundAlerts
from product_consumer.streams.alerts.log_lines import LogAlerts
from product_consumer.streams.alerts.targets import SETTING, Log, OtherPlace
from product_consumer.streams.alerts.webhook import Webhook


def open_sink(
    target: OtherPlace, settings: Settings, count: Callable[[str, int], None]
) -> AlertSink:
    """Return a place that is not started yet.

    ``count``: called with ``sent``, ``failed`` or ``dropped``, and a number. Raises
    ``ConfigurationError`` for an address that may never be reached; a name is judged later.
    """
    if isinstance(target, Log):
        return LogAlerts(count)
    try:
        webhook = Webhook(
            target.url,
            allowed_networks=settings.networks_of_alerts,
            timeout_seconds=settings.alerts_timeout_seconds,
            is_over=lambda: alerts.is_over(),
        )
    except ImageRejected as error:
        problem = _PROBLEMS.get(error.reason, error.detail)
        raise ConfigurationError(SETTING, problem) from None
    alerts = BackgroundAlerts(webhook.post, f"the webhook at {webhook.host}", count)
    return alerts


_PROBLEMS = {
    "image_url_blocked_address": (
        "its address is not public: ALERTS_ALLOWED_NETWORKS names the networks that are allowed"
    ),
}
