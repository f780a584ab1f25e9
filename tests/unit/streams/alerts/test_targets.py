import pytest

from product_consumer.errors import ConfigurationError
from product_consumer.streams.alerts.targets import AlertQueue, Log, Target, Webhook, read_target


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("log", Log()),
        ("https://host/hook?key=1", Webhook("https://host/hook?key=1")),
        ("http://host:8080/", Webhook("http://host:8080/")),
        ("alerts", AlertQueue("alerts")),
        ("Log", AlertQueue("Log")),
    ],
)
def test_a_queue_a_url_and_the_log_are_told_apart(text: str, target: Target) -> None:
    assert read_target(text) == target


@pytest.mark.parametrize(
    "text", ["", "  ", "ftp://host/", "https://", "http://host:99999/", "q" * 256, "http://a b/"]
)
def test_anything_else_is_refused_by_the_name_of_the_setting(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^ALERTS: "):
        read_target(text, "ALERTS")


def test_a_url_is_never_quoted() -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_target("https://host:none/secret")
    assert "secret" not in str(caught.value)
