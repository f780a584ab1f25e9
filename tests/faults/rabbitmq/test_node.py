"""The helpers that talk to RabbitMQ and break it, on a real node."""

from pathlib import Path

import pytest

from tests.support.rabbitmq import RabbitClient
from tests.support.rabbitmq_node import Counts, RabbitNode, RabbitServer


def processes_with(text: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found


def test_the_url_of_a_server_is_taken_apart_and_written_again() -> None:
    server = RabbitServer("amqp://user:pass@mq.example:5673/%2F")

    assert server.url("a b") == "amqp://user:pass@mq.example:5673/%2F?queue=a%20b"
    assert server.url(port=9, login="x:y") == "amqp://x:y@mq.example:9/%2F"


def test_what_was_sent_is_counted_and_taken_with_its_properties(rabbitmq: RabbitClient) -> None:
    queue = rabbitmq.new_queue()
    rabbitmq.publish(queue, b"A", "B", message_id="m", headers={"n": 1})

    assert rabbitmq.count(queue) == 2
    assert rabbitmq.server.counts()[queue] == Counts(ready=2, unacknowledged=0)
    first, second = rabbitmq.take_all(queue)
    assert (first.body, second.body) == (b"A", b"B")
    assert (first.properties.message_id, first.headers) == ("m", {"n": 1})
    assert rabbitmq.get(queue) is None


@pytest.mark.soak
@pytest.mark.timeout(120, func_only=True)
def test_a_node_keeps_what_was_confirmed_over_a_stop_and_a_crash(
    rabbitmq_node: RabbitNode,
) -> None:
    with RabbitClient(rabbitmq_node) as client:
        queue = client.new_queue()
        client.publish(queue, b"A", b"B")
        assert rabbitmq_node.stop() == 0
        assert processes_with(str(rabbitmq_node.data_dir)) == []
        rabbitmq_node.start()
        assert client.count(queue) == 2
        rabbitmq_node.kill()
        rabbitmq_node.heal()

        assert [got.body for got in client.take_all(queue)] == [b"A", b"B"]
