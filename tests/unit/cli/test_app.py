"""The operator's commands do what they are told."""

import pytest
from typer.testing import CliRunner

from product_consumer.cli import rebuild
from product_consumer.cli.app import app
from product_consumer.queue_addresses import StreamName
from product_consumer.queues import opening
from product_consumer.queues.base import QueueUrls
from product_consumer.settings import Settings


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[StreamName, str | None, int | None]]:
    """Which queues were set up; they are not."""
    asked: list[tuple[StreamName, str | None, int | None]] = []

    def set_up_queue(
        _settings: Settings, stream: StreamName, name: str | None, *, max_receive_count: int | None
    ) -> QueueUrls:
        asked.append((stream, name, max_receive_count))
        url = f"https://host/{name or stream}"
        return QueueUrls(url, f"{url}-dead")

    monkeypatch.setattr(opening, "set_up_queue", set_up_queue)
    return asked


def test_queues_are_printed_as_settings(
    asked: list[tuple[StreamName, str | None, int | None]],
) -> None:
    result = CliRunner().invoke(app, ["setup-queues", "--name", "p", "--max-receive-count", "9"])

    assert result.stdout.splitlines() == [
        "QUEUE_URL=https://host/p",
        "DEAD_LETTER_QUEUE_URL=https://host/p-dead",
        "ORDERS_QUEUE_URL=https://host/orders",
        "ORDERS_DEAD_LETTER_QUEUE_URL=https://host/orders-dead",
    ]
    assert asked == [(StreamName.PRODUCTS, "p", 9), (StreamName.ORDERS, None, 9)]


def test_the_queue_of_one_stream_is_set_up_alone(
    asked: list[tuple[StreamName, str | None, int | None]],
) -> None:
    CliRunner().invoke(app, ["setup-queues", "--stream", "orders"])

    assert asked == [(StreamName.ORDERS, None, None)]


@pytest.mark.parametrize(
    ("store", "is_for_keywords"),
    [("milvus", False), ("vectors", False), ("elasticsearch", True), ("keywords", True)],
)
def test_a_rebuild_takes_the_store_of_the_kind_that_is_named(
    monkeypatch: pytest.MonkeyPatch, store: str, is_for_keywords: bool
) -> None:
    asked: list[bool] = []

    def rebuild_store(_settings: Settings, *, keywords: bool, from_start: bool) -> bool:
        asked.append(keywords)
        return not from_start

    monkeypatch.setattr(rebuild, "rebuild_store", rebuild_store)

    assert CliRunner().invoke(app, ["rebuild", store]).exit_code == 0
    assert asked == [is_for_keywords]
