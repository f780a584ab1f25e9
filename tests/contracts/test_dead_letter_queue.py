"""``dlq list``, ``show`` and ``redrive`` on real queues and on ``rejected.jsonl``."""

import json
import os
import signal
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from product_consumer.cli import configuration, dead_letters
from product_consumer.errors import ConfigurationError, ProductConsumerError
from product_consumer.ledger.ledger import Ledger, open_ledger
from product_consumer.ledger.rows import ProductChange
from product_consumer.models import Message
from product_consumer.orders.parser import OrderParser
from product_consumer.outcomes import Rejected
from product_consumer.products.parser import ProductParser
from product_consumer.queues.base import Outgoing, QueueUrls
from product_consumer.queues.dead_letters import queue
from product_consumer.queues.reject_log import RejectLog
from product_consumer.queues.sqs.admin import set_up_queues
from product_consumer.queues.sqs.client import sqs_client
from product_consumer.queues.sqs.queue import SqsQueue
from product_consumer.queues.sqs.sender import publish
from product_consumer.settings import Settings
from tests.support import factories
from tests.support.factories import body_text
from tests.support.order_factories import ABSENT, order_text

HIDDEN_SECONDS = 30


@dataclass
class Rig:
    """A product queue with its dead-letter queue, the worker's side of it, and the operator's."""

    settings: Settings
    client: Any
    urls: QueueUrls
    _opened: list[SqsQueue] = field(default_factory=list)

    @property
    def queue(self) -> SqsQueue:
        log = RejectLog(self.settings.data_dir / "rejected.jsonl")
        if not self._opened:
            self._opened.append(
                SqsQueue(
                    self.client,
                    self.urls.queue_url,
                    self.urls.dead_letter_queue_url,
                    log,
                    HIDDEN_SECONDS,
                )
            )
        return self._opened[0]

    def receive(self) -> Message:
        return self.receive_all(1)[0]

    def receive_all(self, count: int) -> list[Message]:
        received: list[Message] = []
        give_up_at = time.monotonic() + 10
        while len(received) < count and time.monotonic() < give_up_at:
            received += self.queue.receive(min(10, count - len(received)), 1)
        return received

    def reject(self, *bodies: str, reason: str = "json_invalid") -> list[Message]:
        """Publish messages and reject them as a worker does; return them as first received."""
        publish(self.client, self.urls.queue_url, bodies)
        messages = self.receive_all(len(bodies))
        for message in messages:
            self.settle(message, reason)
        return messages

    def settle(self, message: Message, reason: str = "json_invalid") -> None:
        """Reject a received message as a worker does."""
        self.queue.copy_rejected(message, Rejected("validate", reason, "why"))
        self.queue.acknowledge([message])

    def counts(self, queue_url: str) -> tuple[int, int]:
        """How many messages are visible, and how many hidden."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        response = self.client.get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)
        return tuple(int(response["Attributes"][name]) for name in names)  # type: ignore[return-value]

    @property
    def dead(self) -> tuple[int, int]:
        return self.counts(self.urls.dead_letter_queue_url)

    @property
    def live(self) -> tuple[int, int]:
        return self.counts(self.urls.queue_url)


@pytest.fixture
def rig(elasticmq_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    settings = Settings(
        aws_endpoint_url=elasticmq_url,
        sqs_access_key="test",
        sqs_secret_key="test",
        data_dir=tmp_path,
    )
    client = sqs_client(settings)
    name = f"dlq-{uuid.uuid4().hex}"
    urls = set_up_queues(client, name, visibility_timeout_seconds=HIDDEN_SECONDS)
    monkeypatch.setenv("AWS_ENDPOINT_URL", elasticmq_url)
    monkeypatch.setenv("SQS_ACCESS_KEY", "test")
    monkeypatch.setenv("SQS_SECRET_KEY", "test")
    monkeypatch.setenv("SQS_QUEUE_URL", urls.queue_url)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setattr(configuration, "configure_logging", lambda *_: None)
    # SQS may need a while to find its last messages; this server searches all at once.
    monkeypatch.setattr(queue, "_WAIT_SECONDS", 0)
    yield Rig(settings, client, urls)
    client.close()


def dlq(*arguments: str, answer: str | None = None) -> Result:
    result = CliRunner().invoke(dead_letters.app, list(arguments), input=answer)
    if isinstance(result.exception, ProductConsumerError):
        raise result.exception
    return result


def test_a_list_has_a_line_per_message_and_counts_the_reasons(rig: Rig) -> None:
    [first] = rig.reject(body_text(id="p1"))
    rig.reject(body_text(id="p2"), body_text(id="p3"), reason="missing:price")

    lines = dlq("list").stdout.splitlines()

    assert lines[0].startswith(f"{first.message_id}  json_invalid  validate  received 1x  2")
    assert lines[0].endswith("  product p1")
    assert lines[3].startswith("3 messages in dlq-")
    assert [line.split() for line in lines[4:]] == [["2", "missing:price"], ["1", "json_invalid"]]


def test_a_list_leaves_every_message_visible(rig: Rig) -> None:
    rig.reject(*(f"body {number}" for number in range(12)))

    assert dlq("list").exit_code == 0

    assert rig.dead == (12, 0)


def test_a_list_for_programs_is_one_object_per_line(rig: Rig) -> None:
    [message] = rig.reject(body_text(id="p1"))

    [line] = dlq("list", "--json").stdout.splitlines()

    printed = json.loads(line)
    assert (printed["message_id"], printed["product_id"]) == (message.message_id, "p1")
    assert printed["source_queue"] == rig.urls.queue_url.rpartition("/")[2]


def test_a_list_can_be_of_some_reasons_only(rig: Rig) -> None:
    rig.reject("a", reason="http_404")
    rig.reject("b", reason="json_invalid")

    lines = dlq("list", "--reason", "http_").stdout.splitlines()

    assert len(lines) == 3
    assert lines[2].split() == ["1", "http_404"]


def test_a_list_that_stops_at_its_limit_says_so(rig: Rig) -> None:
    rig.reject(*"abc")

    result = dlq("list", "--limit", "2")

    assert "more may wait" in result.stdout
    assert rig.dead == (3, 0)


def test_copies_of_one_message_are_one_line_with_their_number(rig: Rig) -> None:
    [message] = rig.reject("{")
    copied = rig.client.receive_message(
        QueueUrl=rig.urls.dead_letter_queue_url, MessageAttributeNames=["All"], VisibilityTimeout=0
    )["Messages"][0]
    rig.client.send_message(
        QueueUrl=rig.urls.dead_letter_queue_url,
        MessageBody=copied["Body"],
        MessageAttributes=copied["MessageAttributes"],
    )

    lines = dlq("list").stdout.splitlines()

    assert lines[0].startswith(message.message_id)
    assert lines[0].endswith("2 copies")
    assert lines[1].startswith("1 message in")


def test_a_message_that_the_queue_moved_is_listed_without_a_reason(rig: Rig) -> None:
    rig.client.set_queue_attributes(
        QueueUrl=rig.urls.queue_url,
        Attributes={"RedrivePolicy": json.dumps(redrive_policy(rig, max_receive_count=1))},
    )
    publish(rig.client, rig.urls.queue_url, ["{"])
    message = rig.receive()
    rig.queue.release([message])
    assert rig.queue.receive(1, 1) == []

    [line, *_] = dlq("list").stdout.splitlines()

    assert line.startswith(f"{message.message_id}  unknown (moved by the queue)  -  ")


def redrive_policy(rig: Rig, max_receive_count: int) -> dict[str, Any]:
    response = rig.client.get_queue_attributes(
        QueueUrl=rig.urls.dead_letter_queue_url, AttributeNames=["QueueArn"]
    )
    return {
        "deadLetterTargetArn": response["Attributes"]["QueueArn"],
        "maxReceiveCount": max_receive_count,
    }


def test_show_tells_everything_and_steers_no_terminal(rig: Rig) -> None:
    [message] = rig.reject('{"id": "p1",\n"name": "\u202e\x85"}')

    printed = dlq("show", message.message_id).stdout.splitlines()

    assert f"message_id: {message.message_id}" in printed
    assert {"reason: json_invalid", "stage: validate", "detail: why"} <= set(printed)
    assert printed[-2:] == ['  {"id": "p1",', '  "name": "\\u202e\\x85"}']
    assert rig.dead == (1, 0)


def test_show_raw_is_the_body_byte_for_byte(rig: Rig) -> None:
    body = '{"id": "Áo",\r\n "x": "\u2028"}\n'
    [message] = rig.reject(body)

    assert dlq("show", message.message_id, "--raw").stdout_bytes == body.encode()


def test_show_of_an_unknown_id_fails(rig: Rig) -> None:
    result = dlq("show", "no-such")

    assert result.exit_code == 1
    assert "No message 'no-such'" in result.stderr


def test_a_redrive_sends_the_same_bytes_with_their_first_version(rig: Rig) -> None:
    body = '{"id": "Áo",\r\n "x": "\u2028"}\n'
    [rejected] = rig.reject(body)

    result = dlq("redrive", "--all", "--yes")

    redriven = rig.receive()
    assert result.exit_code == 0
    assert result.stdout == "Redriven 1, failed 0, left 0\n"
    assert redriven.body == body
    assert redriven.message_id != rejected.message_id
    assert redriven.attributes["original_message_id"] == rejected.message_id
    sent_microseconds = round(rejected.sent_at.timestamp() * 1000) * 1000
    assert redriven.attributes["original_version"] == str(sent_microseconds)
    assert rig.dead == (0, 0)


def test_a_redrive_of_some_reasons_leaves_the_others_visible(rig: Rig) -> None:
    rig.reject(*(f"a{number}" for number in range(12)), reason="http_404")
    rig.reject("b", "c")

    assert dlq("redrive", "--reason", "http_", "--yes").stdout.endswith("12, failed 0, left 2\n")

    assert rig.live == (12, 0)
    assert rig.dead == (2, 0)


def test_a_redrive_of_named_messages_takes_these_alone(rig: Rig) -> None:
    messages = rig.reject(*"abc")

    dlq("redrive", "--id", messages[0].message_id, "--id", messages[2].message_id, "--yes")

    assert {message.body for message in rig.receive_all(2)} == {messages[0].body, messages[2].body}
    assert rig.dead == (1, 0)


def test_a_message_redriven_twice_keeps_the_version_it_first_had(rig: Rig) -> None:
    rig.reject("{")
    dlq("redrive", "--all", "--yes")
    first = rig.receive()
    rig.settle(first)
    dlq("redrive", "--all", "--yes")
    second = rig.receive()

    assert second.attributes["original_version"] == first.attributes["original_version"]
    assert second.attributes["first_sent"] == first.attributes["first_sent"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--yes"],
        ["--all", "--reason", "x", "--yes"],
        ["--reason", "", "--yes"],
        ["--all"],
    ],
)
def test_a_redrive_without_a_choice_or_anybody_to_ask_is_refused(arguments: list[str]) -> None:
    assert dlq("redrive", *arguments).exit_code == 2


def test_a_redrive_without_a_queue_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="SQS_QUEUE_URL"):
        dlq("redrive", "--all", "--yes", "--file")


@pytest.mark.parametrize(("answer", "moved_count"), [("y\n", 1), ("n\n", 0), ("", 0)])
def test_a_redrive_asks_first(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, answer: str, moved_count: int
) -> None:
    rig.reject("{")
    monkeypatch.setattr(dead_letters, "_is_interactive", lambda: True)

    result = dlq("redrive", "--all", answer=answer)

    assert "Redrive 1 message from dlq-" in result.output
    assert result.exit_code == (0 if moved_count else 1)
    assert (rig.live, rig.dead) == ((moved_count, 0), (1 - moved_count, 0))


def test_a_message_that_is_not_sent_is_named_and_stays(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = rig.reject("a", "b")
    [refused] = [message for message in messages if message.body == "b"]

    def refuse_b(_client: Any, _url: str, outgoing: list[Outgoing]) -> dict[int, str]:
        return {i: "MessageTooLong" for i, message in enumerate(outgoing) if message.body == "b"}

    monkeypatch.setattr("product_consumer.queues.sqs.sender.send_messages", refuse_b)

    result = dlq("redrive", "--all", "--yes")

    assert result.exit_code == 1
    assert result.stdout == "Redriven 1, failed 1, left 0\n"
    assert result.stderr == f"{refused.message_id} was not sent: MessageTooLong\n"
    assert rig.dead == (1, 0)


def test_messages_of_another_queue_are_left_unless_named(rig: Rig) -> None:
    RejectLog(rig.settings.data_dir / "rejected.jsonl").append(
        {"message_id": "o", "reason": "x", "original_version": "1", "source_queue": "orders"}, "{"
    )

    assert dlq("redrive", "--all", "--yes", "--file").stdout.endswith("left 1\n")
    assert dlq("redrive", "--id", "o", "--yes", "--file").stdout.startswith("Redriven 1")


def test_without_a_dead_letter_queue_the_commands_work_on_the_file(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = rig.client.create_queue(QueueName=f"bare-{uuid.uuid4().hex}")["QueueUrl"]
    monkeypatch.setenv("SQS_QUEUE_URL", bare)
    log = RejectLog(rig.settings.data_dir / "rejected.jsonl")
    queue = SqsQueue(rig.client, bare, None, log, HIDDEN_SECONDS)
    publish(rig.client, bare, ["{"])
    [message] = queue.receive(1, 5)
    queue.copy_rejected(message, Rejected("validate", "json_invalid", "why"))
    queue.acknowledge([message])

    assert dlq("list").stdout.startswith(message.message_id)
    assert "body:\n  {" in dlq("show", message.message_id).stdout
    assert dlq("redrive", "--all", "--yes").stdout == "Redriven 1, failed 0, left 0\n"

    [redriven] = queue.receive(1, 5)
    assert redriven.body == "{"
    assert redriven.attributes["original_message_id"] == message.message_id
    assert dlq("list").stdout == "0 messages in rejected.jsonl\n"


def test_a_signal_during_a_look_gives_everything_back(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.reject(*(f"body {number}" for number in range(25)))
    receive = SqsQueue.receive

    def receive_then_signal(queue: SqsQueue, max_messages: int, wait_seconds: int) -> list[Message]:
        received = receive(queue, max_messages, wait_seconds)
        os.kill(os.getpid(), signal.SIGTERM)
        return received

    monkeypatch.setattr(SqsQueue, "receive", receive_then_signal)

    result = dlq("list")

    assert result.exit_code == 1
    assert "more may wait" in result.stdout
    assert rig.dead == (25, 0)


def test_a_second_signal_ends_a_hanging_call_and_gives_back_what_was_received(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.reject(*(f"body {number}" for number in range(25)))
    receive = SqsQueue.receive
    calls: list[int] = []

    def hang_at_the_second(queue: SqsQueue, max_messages: int, wait_seconds: int) -> list[Message]:
        calls.append(max_messages)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return receive(queue, max_messages, wait_seconds)

    monkeypatch.setattr(SqsQueue, "receive", hang_at_the_second)

    result = dlq("list")

    assert result.exit_code != 0
    assert len(calls) == 2
    assert rig.dead == (25, 0)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = open_ledger(Settings(data_dir=tmp_path))
    ledger.setup()
    ledger.claim_model("tiny/test", 768)
    yield ledger
    ledger.close()


def test_an_older_message_that_is_redriven_does_not_replace_a_newer_one(
    rig: Rig, ledger: Ledger
) -> None:
    parser = ProductParser(default_currency="VND", source_timezone="UTC")

    def store(message: Message) -> str:
        change = ProductChange(parser.parse(message), factories.embeddings())
        return ledger.record([change]).rows["abc123"].name

    untimed = ("timestamp",)
    [rejected] = rig.reject(body_text(untimed, name="older"))
    publish(rig.client, rig.urls.queue_url, [body_text(untimed, name="newer")])
    newer = rig.receive()
    assert newer.sent_at > rejected.sent_at
    assert store(newer) == "newer"

    dlq("redrive", "--all", "--yes")
    redriven = rig.receive()

    assert redriven.sent_at > newer.sent_at
    assert store(redriven) == "newer"


@pytest.fixture
def order_rig(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """Its queue is the orders'; there is no queue of products."""
    monkeypatch.delenv("SQS_QUEUE_URL")
    monkeypatch.setenv("ORDERS_QUEUE_URL", rig.urls.queue_url)
    return rig


def test_rejected_orders_are_listed_and_shown(order_rig: Rig) -> None:
    [message] = order_rig.reject(order_text(), reason="order_total")

    [line, *_] = dlq("list", "--stream", "orders").stdout.splitlines()
    printed = dlq("show", message.message_id, "--stream", "orders").stdout.splitlines()

    assert line.startswith(f"{message.message_id}  order_total  validate  received 1x  2")
    assert line.endswith("  order ORD1234")
    assert "order_id: ORD1234" in printed


def test_redriven_orders_go_back_to_their_queue_and_count_for_their_first_day(
    order_rig: Rig,
) -> None:
    parser = OrderParser(default_currency="USD", source_timezone="UTC")
    body = order_text(order_timestamp=ABSENT)
    [rejected] = order_rig.reject(body, reason="price_precision")

    result = dlq("redrive", "--stream", "orders", "--all", "--yes")

    redriven = order_rig.receive()
    assert result.stdout == "Redriven 1, failed 0, left 0\n"
    assert redriven.body == body
    assert redriven.sent_at > rejected.sent_at
    assert parser.parse(redriven).ordered_at == parser.parse(rejected).ordered_at
    assert order_rig.dead == (0, 0)


def test_a_dead_letter_queue_of_their_own_is_the_orders(
    order_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"dlq-{uuid.uuid4().hex}"
    other = order_rig.client.create_queue(QueueName=name)["QueueUrl"]
    publish(order_rig.client, other, ["{"])
    monkeypatch.setenv("ORDERS_DEAD_LETTER_QUEUE_URL", other)

    assert f"1 message in {name}" in dlq("list", "--stream", "orders").stdout


@pytest.mark.parametrize("command", [["list"], ["redrive", "--all", "--yes"]])
def test_the_stream_without_a_queue_is_named_by_its_setting(
    order_rig: Rig, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("SQS_QUEUE_URL", order_rig.urls.queue_url)
    monkeypatch.delenv("ORDERS_QUEUE_URL")

    with pytest.raises(ConfigurationError, match="ORDERS_QUEUE_URL"):
        dlq(*command, "--stream", "orders")
