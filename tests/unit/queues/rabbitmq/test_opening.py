"""From settings to queues on a real RabbitMQ."""

from pathlib import Path

import pytest

from product_consumer.errors import ConfigurationError
from product_consumer.outcomes import Rejected
from product_consumer.queue_addresses import StreamName
from product_consumer.queues.base import Outgoing
from product_consumer.queues.opening import (
    open_dead_letter_queue,
    open_queue,
    open_sender,
    set_up_queue,
)
from product_consumer.queues.rabbitmq.opening import open_stream_queue, open_stream_sender
from product_consumer.queues.rabbitmq.url import read_url
from product_consumer.settings import Settings
from tests.support.rabbitmq import QUORUM, RabbitClient


def settings(client: RabbitClient, queue: str, tmp_path: Path, **values: object) -> Settings:
    url = client.server.url(queue)
    return Settings.model_validate(
        {"queue_url": url, "data_dir": tmp_path, "threads": 1, "batch_size": 2, **values}
    )


def reject_one(configured: Settings) -> None:
    queue = open_queue(configured, StreamName.PRODUCTS)
    [message] = queue.receive(1, 5)
    queue.copy_rejected(message, Rejected("validate", "json_invalid", "not JSON"))
    queue.acknowledge([message])
    queue.close()


def test_a_queue_is_set_up_with_everything_that_belongs_to_it(
    rabbitmq: RabbitClient, tmp_path: Path
) -> None:
    name = rabbitmq.name("products")
    urls = set_up_queue(settings(rabbitmq, name, tmp_path), StreamName.PRODUCTS)

    assert urls.queue_url.endswith(f"?queue={name}")
    assert ":***@" in urls.queue_url
    assert urls.dead_letter_queue_url == f"{name}-dead-letter"
    for suffix in ("", "-dead-letter", "-retry-1", "-retry-2048"):
        assert rabbitmq.exists(name + suffix)


def test_setting_up_twice_leaves_what_is_there(rabbitmq: RabbitClient, tmp_path: Path) -> None:
    name = rabbitmq.new_queue("products")
    rabbitmq.publish(name, "waiting")
    configured = settings(rabbitmq, name, tmp_path)
    set_up_queue(configured, StreamName.PRODUCTS)
    set_up_queue(configured, StreamName.PRODUCTS)

    assert rabbitmq.count(name) == 1


def test_a_name_given_to_set_up_wins_over_that_of_the_url(
    rabbitmq: RabbitClient, tmp_path: Path
) -> None:
    other = rabbitmq.name("other")
    set_up_queue(settings(rabbitmq, "products", tmp_path), StreamName.PRODUCTS, other)

    assert rabbitmq.exists(other)


def test_without_a_dead_letter_queue_rejected_messages_go_to_a_file(
    rabbitmq: RabbitClient, tmp_path: Path
) -> None:
    name = rabbitmq.new_queue("products")
    rabbitmq.publish(name, "nonsense")
    configured = settings(rabbitmq, name, tmp_path)
    reject_one(configured)

    assert open_dead_letter_queue(configured, StreamName.PRODUCTS, 300) is None
    assert '"json_invalid"' in (tmp_path / "rejected.jsonl").read_text("utf-8")


def test_a_dead_letter_queue_is_named_by_its_name(rabbitmq: RabbitClient, tmp_path: Path) -> None:
    name, dead = rabbitmq.new_queue("products"), rabbitmq.new_queue("elsewhere", QUORUM)
    rabbitmq.publish(name, "nonsense")
    configured = settings(rabbitmq, name, tmp_path, dead_letter_queue_url=dead)
    reject_one(configured)
    looked_at = open_dead_letter_queue(configured, StreamName.PRODUCTS, 300)
    assert looked_at is not None
    [message] = looked_at.receive(10, 5)

    assert (looked_at.label, message.body) == (dead, "nonsense")
    assert message.attributes["reason"] == "json_invalid"
    looked_at.close()
    rabbitmq.wait_for(dead, 1)


@pytest.mark.parametrize(
    ("dead_letters", "problem"),
    [
        ("no-such-queue", "there is no queue 'no-such-queue'"),
        ("amqp://host/?queue=q", "needs the name of a queue"),
    ],
)
def test_a_dead_letter_queue_that_cannot_be_used_ends_the_start(
    rabbitmq: RabbitClient, tmp_path: Path, dead_letters: str, problem: str
) -> None:
    name = rabbitmq.new_queue("products")
    configured = settings(rabbitmq, name, tmp_path, dead_letter_queue_url=dead_letters)

    with pytest.raises(ConfigurationError, match=problem) as refused:
        open_queue(configured, StreamName.PRODUCTS)
    assert refused.value.setting == "DEAD_LETTER_QUEUE_URL"


def test_a_queue_is_not_its_own_dead_letter_queue(rabbitmq: RabbitClient, tmp_path: Path) -> None:
    name = rabbitmq.new_queue("products")
    configured = settings(rabbitmq, name, tmp_path, dead_letter_queue_url=name)

    with pytest.raises(ConfigurationError, match="is the queue that it should serve"):
        open_queue(configured, StreamName.PRODUCTS)


def test_the_second_node_is_used_while_the_first_is_down(
    rabbitmq: RabbitClient, tmp_path: Path
) -> None:
    name = rabbitmq.new_queue("products")
    rabbitmq.publish(name, "hello")
    nodes = f"{rabbitmq.server.url(name, port=1)},{rabbitmq.server.url(name)}"
    queue = open_queue(settings(rabbitmq, name, tmp_path, queue_url=nodes), StreamName.PRODUCTS)
    received = queue.receive(1, 5)
    queue.close()

    assert [message.body for message in received] == ["hello"]


def test_the_queue_of_a_data_stream_is_made_as_the_field_declares_it(
    rabbitmq: RabbitClient, tmp_path: Path
) -> None:
    name = rabbitmq.name("image_queue")
    url = read_url(rabbitmq.server.url(name), "--rabbitmq_server")
    queue = open_stream_queue(url, Settings(data_dir=tmp_path), label="images", prefetch=1)
    queue.close()

    # A declaration with other arguments would be refused.
    rabbitmq.declare(name)


def test_a_sender_reports_what_no_queue_takes(rabbitmq: RabbitClient, tmp_path: Path) -> None:
    name = rabbitmq.name("results")
    url = read_url(rabbitmq.server.url(name), "--out")
    sender = open_stream_sender(url, Settings(data_dir=tmp_path))
    messages = [Outgoing("one", {"filename": "a"}), Outgoing(b"\xff", {})]
    codes, gone = sender.send(messages), sender.send(messages, queue_name="no-such-queue")
    sender.close()

    assert (codes, gone) == ({}, {0: "NoRoute", 1: "NoRoute"})
    first, second = rabbitmq.take_all(name)
    assert (first.body, dict(first.headers), second.body) == (b"one", {"filename": "a"}, b"\xff")
    assert first.properties.delivery_mode == 2


def test_published_messages_know_when_they_were_sent(
    rabbitmq: RabbitClient, tmp_path: Path
) -> None:
    name = rabbitmq.new_queue("products")
    configured = settings(rabbitmq, name, tmp_path)
    sender = open_sender(configured, configured.queue_of(StreamName.PRODUCTS))
    count = sender.publish(f'{{"n": {number}}}' for number in range(250))
    sender.close()
    queue = open_queue(configured, StreamName.PRODUCTS)
    [first] = queue.receive(1, 5)
    queue.close()

    assert (count, first.is_sent_time_known) == (250, True)
    assert first.envelope.content_type == "application/json"


def test_what_a_queue_can_do_is_told(rabbitmq: RabbitClient, tmp_path: Path) -> None:
    name = rabbitmq.new_queue("products")
    queue = open_queue(settings(rabbitmq, name, tmp_path), StreamName.PRODUCTS)
    described = queue.describe()
    queue.close()

    assert f"rejected messages go to {tmp_path / 'rejected.jsonl'}" in described
    assert "may not publish" not in described
