"""The promises of every queue to the consumer loop, checked on each implementation."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from product_consumer.models import Message
from product_consumer.outcomes import Rejected
from product_consumer.queue_addresses import StreamName
from product_consumer.queues.base import MessageQueue
from product_consumer.queues.memory import InMemoryQueue
from product_consumer.queues.opening import open_queue, set_up_queue
from product_consumer.queues.reject_log import RejectLog
from product_consumer.queues.sqs.admin import set_up_queues
from product_consumer.queues.sqs.client import sqs_client
from product_consumer.queues.sqs.queue import SqsQueue
from product_consumer.queues.sqs.sender import publish
from product_consumer.settings import Settings, read_settings
from tests.support.rabbitmq import RabbitClient

VISIBILITY_SECONDS = 30
SHORT_SECONDS = 1
REJECTED = Rejected(stage="validate", reason="json_invalid", detail="Expecting value: line 1")

DeadLetters = list[tuple[str, dict[str, str]]]


@dataclass
class Rig:
    """A queue under test and what stands around it."""

    queue: MessageQueue
    send: Callable[..., object]
    dead_letters: Callable[[], DeadLetters]
    open: Callable[[int], MessageQueue]
    """Return the same queue as another process sees it, with this visibility timeout. What it
    receives it settles itself: some receipts mean nothing elsewhere.
    """
    back_within_seconds: float = SHORT_SECONDS + 1
    """How long what ran out of a short timeout may take to reach another process."""

    def receive(self, count: int = 10, within_seconds: float = 10.0) -> list[Message]:
        """Return ``count`` messages, from as many receives as it takes."""
        return receive_from(self.queue, count, within_seconds)

    def send_and_receive(self, *bodies: str) -> list[Message]:
        self.send(*bodies)
        return self.receive(len(bodies))

    def delivered_twice(self, body: str) -> tuple[MessageQueue, Message, Message]:
        """Return a queue and both deliveries of a message there; the first ran out of time."""
        self.send(body)
        queue = self.open(SHORT_SECONDS)
        [stale] = receive_from(queue, 1)
        [current] = receive_from(queue, 1)
        queue.extend([current], VISIBILITY_SECONDS)
        return queue, stale, current

    def what_comes_back(self) -> set[str | bytes]:
        """Return the bodies that are visible or become so shortly."""
        queue = self.open(VISIBILITY_SECONDS)
        return {message.body for message in receive_from(queue, 99, self.back_within_seconds)}


def receive_from(queue: MessageQueue, count: int, within_seconds: float = 10.0) -> list[Message]:
    received: list[Message] = []
    give_up_at = time.monotonic() + within_seconds
    while len(received) < count and time.monotonic() < give_up_at:
        received += queue.receive(min(10, count - len(received)), 1)
    return received


def memory_rig() -> Rig:
    queue = InMemoryQueue(VISIBILITY_SECONDS)

    def send(*bodies: str) -> None:
        for body in bodies:
            queue.send(body)

    def open_again(visibility_seconds: int) -> InMemoryQueue:
        queue.visibility_timeout_seconds = visibility_seconds
        return queue

    return Rig(
        queue=queue,
        send=send,
        dead_letters=lambda: [
            (str(copy.body), dict(copy.attributes)) for copy in queue.dead_letters
        ],
        open=open_again,
    )


def sqs_rig(endpoint_url: str, data_dir: Path) -> Iterator[Rig]:
    settings = Settings(
        aws_endpoint_url=endpoint_url,
        sqs_access_key="test",
        sqs_secret_key="test",
        sqs_wait_seconds=5,
    )
    client = sqs_client(settings)
    urls = set_up_queues(
        client, f"contract-{uuid.uuid4().hex}", visibility_timeout_seconds=VISIBILITY_SECONDS
    )
    opened: list[Any] = [client]

    def open_again(visibility_seconds: int) -> SqsQueue:
        queue = SqsQueue(
            sqs_client(settings),
            urls.queue_url,
            urls.dead_letter_queue_url,
            RejectLog(data_dir / "rejected.jsonl"),
            visibility_seconds,
        )
        opened.append(queue)
        return queue

    def dead_letters() -> DeadLetters:
        response = client.receive_message(
            QueueUrl=urls.dead_letter_queue_url,
            MaxNumberOfMessages=10,
            MessageAttributeNames=["All"],
        )
        return [
            (copy["Body"], {k: v["StringValue"] for k, v in copy["MessageAttributes"].items()})
            for copy in response.get("Messages", [])
        ]

    yield Rig(
        queue=open_again(VISIBILITY_SECONDS),
        send=lambda *bodies: publish(client, urls.queue_url, bodies),
        dead_letters=dead_letters,
        open=open_again,
    )
    for queue in opened:
        queue.close()


def rabbitmq_rig(client: RabbitClient, data_dir: Path, *, is_quorum: bool) -> Iterator[Rig]:
    name = client.name("contract")
    settings = read_settings(None, queue_url=client.server.url(name), data_dir=data_dir)
    if is_quorum:
        set_up_queue(settings, StreamName.PRODUCTS, name)
    else:
        # As other people's producers make them.
        client.declare(name)
        client.declare(f"{name}-dead-letter")
    opened: list[MessageQueue] = []

    def open_again(visibility_seconds: int) -> MessageQueue:
        # Shorter than settings may be.
        short = settings.model_copy(update={"visibility_timeout_seconds": visibility_seconds})
        opened.append(open_queue(short, StreamName.PRODUCTS))
        return opened[-1]

    def dead_letters() -> DeadLetters:
        return [
            (copy.body.decode(), {k: v for k, v in copy.headers.items() if not k.startswith("x-")})
            for copy in client.take_all(f"{name}-dead-letter")
        ]

    yield Rig(
        queue=open_again(VISIBILITY_SECONDS),
        send=lambda *bodies: client.publish(name, *bodies, timestamp=int(time.time())),
        dead_letters=dead_letters,
        open=open_again,
        # A consumer that nobody asks any more may have it in its buffer for two seconds.
        back_within_seconds=SHORT_SECONDS + 4,
    )
    for queue in opened:
        queue.close()


CLASSIC = pytest.param("rabbitmq_classic", marks=[pytest.mark.soak, pytest.mark.backend])


@pytest.fixture(params=["memory", "sqs", "rabbitmq", CLASSIC])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    if request.param == "memory":
        yield memory_rig()
    elif request.param == "sqs":
        yield from sqs_rig(request.getfixturevalue("elasticmq_url"), tmp_path)
    else:
        client = request.getfixturevalue("rabbitmq")
        yield from rabbitmq_rig(client, tmp_path, is_quorum=request.param == "rabbitmq")


def bodies(messages: list[Message]) -> list[str]:
    return sorted(str(message.body) for message in messages)


def test_a_received_message_is_hidden_and_comes_back_counted(rig: Rig) -> None:
    rig.send("A")
    [first] = receive_from(rig.open(SHORT_SECONDS), 1)
    hidden = rig.queue.receive(10, 0)
    [second] = rig.receive(1)

    assert hidden == []
    assert (first.receive_count, second.receive_count) == (1, 2)
    assert first.message_id == second.message_id
    assert first.receipt_handle != second.receipt_handle
    assert first.sent_at == second.sent_at
    assert first.sent_at.utcoffset() is not None


def test_any_text_arrives_as_it_was_sent(rig: Rig) -> None:
    text = 'Áo thun "1.299.000₫"\t\n\r\u2028 \U0001f455'

    [message] = rig.send_and_receive(text)

    assert message.body == text


def test_acknowledged_messages_do_not_come_back(rig: Rig) -> None:
    rig.send("A", "B")
    queue = rig.open(SHORT_SECONDS)

    queue.acknowledge(receive_from(queue, 2))

    assert rig.what_comes_back() == set()
    assert rig.queue.backlog().is_empty


def test_a_message_is_retried_after_its_delay_and_not_before(rig: Rig) -> None:
    [message] = rig.send_and_receive("A")
    put_off_at = time.monotonic()
    rig.queue.retry_later(message, 1.5)

    [again] = rig.receive(1)

    assert again.message_id == message.message_id
    assert time.monotonic() - put_off_at >= 1.4


def test_released_messages_are_visible_at_once(rig: Rig) -> None:
    messages = rig.send_and_receive("A", "B")

    rig.queue.release(messages)

    assert bodies(rig.receive(2)) == ["A", "B"]


def test_a_probe_touches_no_message(rig: Rig) -> None:
    [held] = rig.send_and_receive("held")
    rig.send("waiting")

    rig.queue.probe()

    assert bodies(rig.receive(1)) == ["waiting"]
    assert rig.queue.extend([held], 30) == []


def test_a_rejected_message_is_replaced_by_a_copy_with_the_reason(rig: Rig) -> None:
    [message] = rig.send_and_receive('{"id": ')

    rig.queue.copy_rejected(message, REJECTED)
    rig.queue.acknowledge([message])

    [(body, attributes)] = rig.dead_letters()
    assert body == '{"id": '
    assert attributes.keys() == {
        "reason",
        "stage",
        "detail",
        "message_id",
        "original_version",
        "first_sent",
        "receive_count",
        "source_queue",
    }
    assert all(attributes.values())
    assert attributes["reason"] == "json_invalid"
    assert attributes["message_id"] == message.message_id
    assert rig.queue.backlog().is_empty


def test_extending_hides_a_message_past_its_first_timeout(rig: Rig) -> None:
    rig.send("A", "B")
    queue = rig.open(SHORT_SECONDS)
    extended, expired = receive_from(queue, 2)

    assert queue.extend([extended], VISIBILITY_SECONDS) == []

    assert rig.what_comes_back() == {expired.body}


def test_a_stale_receipt_settles_nothing_and_is_no_error(rig: Rig) -> None:
    queue, stale, current = rig.delivered_twice("A")

    queue.acknowledge([stale])
    queue.retry_later(stale, 0)
    queue.release([stale])

    assert rig.queue.receive(10, 0) == []
    queue.release([current])
    assert bodies(rig.receive(1)) == ["A"]


def test_extending_tells_which_messages_were_lost(rig: Rig) -> None:
    queue, stale, current = rig.delivered_twice("A")

    assert queue.extend([stale, current], VISIBILITY_SECONDS) == [stale]


def test_settling_a_message_twice_is_no_error(rig: Rig) -> None:
    [message] = rig.send_and_receive("A")

    rig.queue.acknowledge([message])
    rig.queue.acknowledge([message])
    rig.queue.release([message])

    assert rig.queue.backlog().is_empty


def test_released_messages_and_no_others_come_to_the_next_process(rig: Rig) -> None:
    rig.send(*"ABCDE")
    queue = rig.open(SHORT_SECONDS)
    by_body = {str(message.body): message for message in receive_from(queue, 5)}

    queue.acknowledge([by_body[name] for name in "ABD"])
    queue.release([by_body[name] for name in "CE"])

    assert rig.what_comes_back() == {"C", "E"}


def test_one_stale_receipt_does_not_keep_nine_others_from_being_deleted(rig: Rig) -> None:
    rig.send(*"ABCDEFGHIJ")
    queue = rig.open(SHORT_SECONDS)
    first, *others = receive_from(queue, 10)

    queue.acknowledge([replace(first, receipt_handle="stale"), *others])

    assert rig.what_comes_back() == {first.body}


def test_a_message_twice_in_one_call_does_not_disturb_the_others(rig: Rig) -> None:
    first, second = rig.send_and_receive("A", "B")

    rig.queue.extend([first, second, first], VISIBILITY_SECONDS)
    rig.queue.acknowledge([first, second, first])

    assert rig.queue.backlog().is_empty


def test_more_messages_than_one_call_takes_are_settled(rig: Rig) -> None:
    messages = rig.send_and_receive(*"ABCDEFGHIJKLMNOPQRSTUVW")

    assert rig.queue.extend(messages, VISIBILITY_SECONDS) == []
    rig.queue.acknowledge(messages)

    assert rig.queue.backlog().is_empty


def test_no_messages_are_settled_without_a_call(rig: Rig) -> None:
    rig.queue.acknowledge([])
    rig.queue.release([])

    assert rig.queue.extend([], VISIBILITY_SECONDS) == []


def test_the_backlog_counts_what_waits_and_what_is_in_flight(rig: Rig) -> None:
    rig.send("A", "B", "C")
    rig.queue.receive(1, 1)

    backlog = rig.queue.backlog()

    assert (backlog.visible, backlog.in_flight, backlog.delayed) == (2, 1, 0)
    assert not backlog.is_empty


def test_a_receive_takes_no_more_than_it_was_asked_for(rig: Rig) -> None:
    rig.send("A", "B", "C")

    assert len(rig.queue.receive(2, 1)) == 2


def test_an_empty_queue_ends_the_wait_without_messages(rig: Rig) -> None:
    started_at = time.monotonic()

    assert rig.queue.receive(10, 1) == []
    assert time.monotonic() - started_at >= 0.9


def test_a_waiting_receive_wakes_when_a_message_is_sent(rig: Rig) -> None:
    received: list[Message] = []
    started_at = time.monotonic()
    receiver = threading.Thread(target=lambda: received.extend(rig.queue.receive(10, 5)))
    receiver.start()

    rig.send("A")
    receiver.join(10)

    assert bodies(received) == ["A"]
    assert time.monotonic() - started_at < 4.5
