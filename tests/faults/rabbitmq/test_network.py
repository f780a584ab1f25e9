"""A network that cuts, falls silent, is slow or narrow, between a worker and its queue."""

import time
from collections.abc import Mapping

import pytest

from product_consumer.errors import QueueUnavailable
from tests.faults.harness.toxiproxy import DOWNSTREAM, UPSTREAM, Proxy
from tests.faults.rabbitmq.bench import Bench, receive, reject, wait_for

pytestmark = pytest.mark.timeout(120, func_only=True)

SLOW: Mapping[str, tuple[str, Mapping[str, int]]] = {
    "latency": ("latency", {"latency": 250, "jitter": 100}),
    "bandwidth": ("bandwidth", {"rate": 20}),
    "slices": ("slicer", {"average_size": 7, "size_variation": 3, "delay": 50}),
}


def test_a_cut_brings_what_was_held_again(any_bench: Bench, proxy: Proxy, proxy_port: int) -> None:
    bench = any_bench
    queue = bench.open(port=proxy_port)
    bench.send("A")
    [held] = receive(queue)
    with proxy.down():
        wait_for(lambda: queue.extend([held], 60) == [held])
        with pytest.raises(QueueUnavailable):
            queue.receive(10, 0)
        with pytest.raises(QueueUnavailable):
            queue.probe()
    [again] = receive(queue)
    queue.acknowledge([again])
    bench.wait_until_empty()

    assert (again.message_id, again.receive_count) == (held.message_id, 2)


@pytest.mark.soak
def test_a_silence_is_noticed_by_the_heartbeat(bench: Bench, proxy: Proxy, proxy_port: int) -> None:
    queue = bench.open(port=proxy_port, query="&heartbeat=2")
    bench.send("A")
    [held] = receive(queue)
    proxy.add("timeout", DOWNSTREAM, timeout=0)
    proxy.add("timeout", UPSTREAM, timeout=0)
    wait_for(lambda: queue.extend([held], 60) == [held])
    with pytest.raises(QueueUnavailable):
        queue.receive(10, 1)
    proxy.heal()
    [again] = receive(queue, within_seconds=30)
    queue.acknowledge([again])
    bench.wait_until_empty()


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        pytest.param(*toxic, id=name, marks=[] if name == "latency" else pytest.mark.soak)
        for name, toxic in SLOW.items()
    ],
)
def test_a_slow_network_costs_time_alone(
    bench: Bench, proxy: Proxy, proxy_port: int, kind: str, attributes: Mapping[str, int]
) -> None:
    queue = bench.open(port=proxy_port)
    proxy.add(kind, DOWNSTREAM, **attributes)
    bench.send(*(f"{number:0300d}" for number in range(100)))
    began_at = time.monotonic()
    held = receive(queue, 100, within_seconds=30)
    reject(queue, held[0])
    queue.retry_later(held[1], 1)
    queue.acknowledge(held[2:])
    [again] = receive(queue)
    queue.acknowledge([again])
    bench.wait_until_empty()

    assert {message.receive_count for message in held} == {1}
    assert again.receive_count == 2
    assert len(bench.dead_letters()) == 1
    assert time.monotonic() - began_at < 30
