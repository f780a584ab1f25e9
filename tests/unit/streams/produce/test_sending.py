"""Sending over outages: what is sent again, what is given up. The sender is a stand-in here."""

from collections.abc import Iterable, Iterator
from threading import Event

import pytest

from product_consumer.errors import ConfigurationError, QueueUnavailable
from product_consumer.pipeline.backoff import Stopped
from product_consumer.queues.base import Outgoing
from product_consumer.streams.produce import sending
from product_consumer.streams.produce.sending import ATTEMPTS, TOO_LARGE, StreamSender

DOWN = QueueUnavailable("RabbitMQ", "sending: connection reset")
SIZE = QueueUnavailable("RabbitMQ", "sending: message size 9 is larger than configured max size 4")


class StandIn:
    """A server with one queue: fails as often as a test tells it to, in the middle of a call."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.codes: list[dict[int, str]] = []
        self.connections = 0
        self.arrived: list[str] = []
        self.max_bytes = 1000

    def open(self) -> "StandIn":
        if self.failures and self.connections == 0:
            raise self.failures.pop(0)
        self.connections += 1
        return self

    def send(self, messages: Iterable[Outgoing]) -> dict[int, str]:
        codes = self.codes.pop(0) if self.codes else {}
        for position, message in enumerate(messages):
            if len(message.body) > self.max_bytes:
                raise SIZE
            if position == 1 and self.failures:
                raise self.failures.pop(0)
            if position not in codes:
                self.arrived.append(str(message.body))
        return codes

    def close(self) -> None:
        """Nothing to close."""


def messages(count: int) -> Iterator[Outgoing]:
    return (Outgoing(str(number), {}) for number in range(count))


def bodies(count: int) -> list[str]:
    return [str(number) for number in range(count)]


@pytest.fixture
def server() -> StandIn:
    return StandIn()


@pytest.fixture
def sender(server: StandIn) -> StreamSender:
    return StreamSender(server.open, Event(), pause_seconds=0.0)


def test_every_message_is_sent_in_its_order(server: StandIn, sender: StreamSender) -> None:
    sender.send(messages(5000))

    assert server.arrived == bodies(5000)
    assert sender.sent.count == 5000


def test_messages_are_made_while_they_are_sent(server: StandIn, sender: StreamSender) -> None:
    sent_before: list[int] = []

    def slow() -> Iterator[Outgoing]:
        for message in messages(3):
            sent_before.append(len(server.arrived))
            yield message

    sender.send(slow())

    assert sent_before == [0, 1, 2]


def test_after_an_outage_a_chunk_is_sent_again(server: StandIn, sender: StreamSender) -> None:
    sender.connect()
    server.failures = [DOWN, DOWN]
    sender.send(messages(5))

    assert server.arrived == ["0", "0", *bodies(5)]
    assert sender.sent.count == 5


def test_a_server_that_starts_late_is_waited_for(server: StandIn, sender: StreamSender) -> None:
    server.failures = [DOWN] * (ATTEMPTS - 1)
    sender.connect()

    assert server.connections == 1


def test_a_server_that_does_not_come_is_given_up(server: StandIn, sender: StreamSender) -> None:
    server.failures = [DOWN] * ATTEMPTS
    with pytest.raises(QueueUnavailable):
        sender.connect()


def test_a_wrong_setting_is_told_at_once(server: StandIn, sender: StreamSender) -> None:
    server.failures = [ConfigurationError("--rabbitmq_server", "the log-in is refused"), DOWN]
    with pytest.raises(ConfigurationError):
        sender.connect()

    assert server.failures == [DOWN]


def test_a_stop_ends_the_wait_for_a_server(server: StandIn) -> None:
    stopping = Event()
    stopping.set()
    server.failures = [DOWN] * 2
    with pytest.raises(Stopped):
        StreamSender(server.open, stopping, pause_seconds=60.0).connect()


def test_a_stop_ends_the_messages(server: StandIn) -> None:
    stopping = Event()

    def endless() -> Iterator[Outgoing]:
        for message in messages(10**9):
            if message.body == "7":
                stopping.set()
            yield message

    StreamSender(server.open, stopping).send(endless())

    assert server.arrived == bodies(8)


def test_a_queue_that_was_deleted_is_made_again(server: StandIn, sender: StreamSender) -> None:
    server.codes = [{1: "NoRoute", 2: "NoRoute"}, {0: "NoRoute"}]
    sender.send(messages(4))

    assert sorted(server.arrived) == bodies(4)
    assert (server.connections, sender.sent.count, sender.sent.refused) == (3, 4, {})


def test_a_queue_that_is_always_deleted_is_given_up(server: StandIn, sender: StreamSender) -> None:
    server.codes = [{0: "NoRoute"}] * 50
    with pytest.raises(QueueUnavailable, match="deleted again and again"):
        sender.send(messages(1))


def test_a_refused_message_is_counted_and_the_others_are_sent(
    server: StandIn, sender: StreamSender
) -> None:
    server.codes = [{1: "Refused"}]
    sender.send(messages(3))

    assert server.arrived == ["0", "2"]
    assert (sender.sent.count, sender.sent.refused) == (2, {"Refused": 1})


def test_a_message_that_the_server_finds_too_large_spares_the_others(
    server: StandIn, sender: StreamSender
) -> None:
    large = Outgoing("x" * 2000, {})
    sender.send([*messages(1), large, *messages(2)])

    assert server.arrived[-3:] == ["0", "0", "1"]
    assert (sender.sent.count, sender.sent.refused) == (3, {TOO_LARGE: 1})


def test_large_messages_are_kept_for_a_short_time(
    server: StandIn, sender: StreamSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "CHUNK_BYTES", 10)
    counts: list[int] = []
    told = StreamSender(server.open, Event(), lambda sent, _: counts.append(sent))
    told.send(Outgoing("x" * 5, {}) for _ in range(5))

    assert counts == [2, 2, 1]
