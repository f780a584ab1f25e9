"""Users who may not do everything, and addresses that lead nowhere."""

import pytest

from product_consumer.errors import ConfigurationError, QueueUnavailable
from tests.faults.rabbitmq.bench import Bench, receive, reject
from tests.support.rabbitmq_node import RabbitNode

pytestmark = pytest.mark.timeout(120, func_only=True)


def test_a_user_who_may_not_publish_keeps_what_it_cannot_reject_and_acknowledges_the_rest(
    bench: Bench, rabbitmq_node: RabbitNode
) -> None:
    with rabbitmq_node.user(read=".*") as login:
        queue = bench.open(login=login)
        bench.send("A", "B", "C")
        rejected, delayed, good = receive(queue, 3)
        with pytest.raises(QueueUnavailable):
            reject(queue, rejected)
        with pytest.raises(QueueUnavailable):
            queue.retry_later(delayed, 1)
        queue.acknowledge([good])
        assert queue.extend([rejected, delayed], 60) == []
        queue.close()
        bench.client.wait_for(bench.name, 2)

    assert bench.dead_letters() == []


def test_a_user_who_may_not_consume_is_refused_at_the_start(
    bench: Bench, rabbitmq_node: RabbitNode
) -> None:
    with rabbitmq_node.user(write=".*") as login, pytest.raises(ConfigurationError) as refused:
        bench.open(login=login)
    assert_tells_no_password(refused.value)


def test_a_wrong_password_is_refused_at_the_start(bench: Bench) -> None:
    with pytest.raises(ConfigurationError) as refused:
        bench.open(login="guest:secret")
    assert_tells_no_password(refused.value)


def test_a_virtual_host_that_there_is_not_is_refused_at_the_start(bench: Bench) -> None:
    bench.server.vhost_path = "/nowhere"
    try:
        with pytest.raises(ConfigurationError, match="nowhere"):
            bench.open()
    finally:
        bench.server.vhost_path = ""


def test_a_queue_that_there_is_not_is_refused_at_the_start_and_says_how_to_make_it(
    bench: Bench,
) -> None:
    bench.client.delete(bench.name)
    with pytest.raises(ConfigurationError, match="setup-queues"):
        bench.open()


def assert_tells_no_password(error: Exception) -> None:
    assert "secret" not in str(error)
