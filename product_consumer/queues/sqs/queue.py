"""A standard queue of Amazon SQS, or of a server that speaks its API."""

import logging
import math
from collections.abc import Callable, Sequence
from threading import Event
from typing import TYPE_CHECKING, Any, Final, Literal

from product_consumer.errors import QueueUnavailable
from product_consumer.models import Message
from product_consumer.outcomes import Rejected
from product_consumer.queues.base import Backlog
from product_consumer.queues.reject_log import RejectLog
from product_consumer.queues.rejections import rejection_attributes
from product_consumer.queues.sqs.batch_calls import MAX_ENTRIES, call_batch
from product_consumer.queues.sqs.client import sqs_error_code, sqs_errors
from product_consumer.queues.sqs.conversion import (
    body_md5,
    delivered_message,
    queue_name,
    text_attributes,
)
from product_consumer.queues.sqs.error_codes import CONTENT_REFUSED, STALE
from product_consumer.text import printable

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

log = logging.getLogger(__name__)

MAX_WAIT_SECONDS = 20
# SQS hides a message for 43,200 s at most, counted from its receive, and refuses more. One hour
# less leaves room for the time that a message was held before it is delayed.
MAX_DELAY_SECONDS = 43_200 - 3_600
MAX_HOLD_SECONDS = 3600.0
"""Giving a message back costs it one of the receives that a redrive policy counts."""

_SYSTEM_ATTRIBUTES: Final[list[Literal["SentTimestamp", "ApproximateReceiveCount"]]] = [
    "SentTimestamp",
    "ApproximateReceiveCount",
]


class SqsQueue:
    """A standard queue of SQS; implements ``MessageQueue``.

    Rejected messages go to ``reject_log`` where there is no dead-letter queue, or it refuses the
    copy. ``close`` closes the client too.
    """

    max_hold_seconds = MAX_HOLD_SECONDS

    def __init__(
        self,
        client: "SQSClient",
        queue_url: str,
        dead_letter_queue_url: str | None,
        reject_log: RejectLog,
        visibility_timeout_seconds: int,
        label: str = "SQS",
        counts_lag_seconds: float = 0.0,
        url_setting: str = "QUEUE_URL",
    ) -> None:
        """``url_setting``: the setting that an error of ``probe`` names."""
        self.label = label
        self.counts_lag_seconds = counts_lag_seconds
        self.queue_url = queue_url
        self.dead_letter_queue_url = dead_letter_queue_url
        self._client = client
        self._url_setting = url_setting
        self._reject_log = reject_log
        self._visibility_timeout_seconds = visibility_timeout_seconds
        self._closed = Event()

    def receive(self, max_messages: int, wait_seconds: int) -> list[Message]:
        with sqs_errors("receiving"):
            response = self._client.receive_message(
                QueueUrl=self.queue_url,
                MaxNumberOfMessages=min(max_messages, MAX_ENTRIES),
                WaitTimeSeconds=min(wait_seconds, MAX_WAIT_SECONDS),
                VisibilityTimeout=self._visibility_timeout_seconds,
                MessageSystemAttributeNames=_SYSTEM_ATTRIBUTES,
                # The older name, which is all that some servers of this API read.
                AttributeNames=_SYSTEM_ATTRIBUTES,
                MessageAttributeNames=["All"],
            )
        return [delivered_message(delivered) for delivered in response.get("Messages", [])]

    def acknowledge(self, messages: Sequence[Message]) -> None:
        def delete(entries: Sequence[Any]) -> Any:
            return self._client.delete_message_batch(QueueUrl=self.queue_url, Entries=entries)

        _stale, failed = self._for_each_ten("deleting", messages, {}, delete)
        if failed:
            codes = ", ".join(sorted(set(failed.values())))
            raise QueueUnavailable("SQS", f"deleting {len(failed)} messages: {codes}")

    def retry_later(self, message: Message, delay_seconds: float) -> None:
        delay = min(max(math.ceil(delay_seconds), 0), MAX_DELAY_SECONDS)
        self._change_visibility("delaying", [message], delay)

    def release(self, messages: Sequence[Message]) -> None:
        self._change_visibility("releasing", messages, 0)

    def extend(self, messages: Sequence[Message], visibility_seconds: int) -> list[Message]:
        return self._change_visibility("extending", messages, visibility_seconds)

    def copy_rejected(self, message: Message, rejected: Rejected) -> None:
        attributes = rejection_attributes(message, rejected, queue_name(self.queue_url))
        if self.dead_letter_queue_url is None or isinstance(message.body, bytes):
            self._reject_log.append(attributes, message.body)
        else:
            self._send_copy(self.dead_letter_queue_url, message.body, attributes)

    def probe(self) -> None:
        """Delete and release by a receipt that no message has: the queue says it is invalid.

        Raises ``ConfigurationError``, too, where the credentials may not do that.
        """
        calls: tuple[tuple[Any, dict[str, Any]], ...] = (
            (self._client.delete_message_batch, {}),
            (self._client.change_message_visibility_batch, {"VisibilityTimeout": 0}),
        )
        for call, fields in calls:
            entry = {"Id": "0", "ReceiptHandle": "none", **fields}
            try:
                with sqs_errors("trying to settle", self._url_setting):
                    call(QueueUrl=self.queue_url, Entries=[entry])
            except QueueUnavailable as error:
                # Some servers refuse the call instead of the entry.
                if sqs_error_code(error.__cause__) not in STALE:
                    raise

    def describe(self) -> str:
        to = self.dead_letter_queue_url or str(self._reject_log.path)
        return f"{self.queue_url}, rejected messages go to {printable(to)}"

    def backlog(self) -> Backlog:
        with sqs_errors("counting messages"):
            response = self._client.get_queue_attributes(
                QueueUrl=self.queue_url,
                AttributeNames=[
                    "ApproximateNumberOfMessages",
                    "ApproximateNumberOfMessagesNotVisible",
                    "ApproximateNumberOfMessagesDelayed",
                ],
            )
        counts = response.get("Attributes", {})
        if "ApproximateNumberOfMessages" not in counts:
            # A response cut off within its headers has no body; boto3 takes it for complete.
            raise QueueUnavailable("SQS", "counting messages: the response has no counts")
        return Backlog(
            visible=int(counts.get("ApproximateNumberOfMessages", 0)),
            in_flight=int(counts.get("ApproximateNumberOfMessagesNotVisible", 0)),
            delayed=int(counts.get("ApproximateNumberOfMessagesDelayed", 0)),
        )

    def close(self) -> None:
        self._closed.set()
        self._client.close()

    def _send_copy(self, queue_url: str, body: str, attributes: dict[str, str]) -> None:
        """Send a rejected message's copy; whatever the server refuses is in the reject log.

        A body near the size limit leaves no room for attributes. The copy is then sent without
        them: the dead-letter queue still has every message, and the log has the reason.
        """
        if self._sent(queue_url, body, attributes):
            return
        in_queue = self._sent(queue_url, body, {})
        log.warning(
            "The dead-letter queue refused the %s of message %s: recorded in %s",
            "attributes" if in_queue else "copy",
            attributes["message_id"],
            self._reject_log.path.name,
        )
        self._reject_log.append(attributes, body)

    def _sent(self, queue_url: str, body: str, attributes: dict[str, str]) -> bool:
        """Send and confirm; return False when the server refuses this content for good."""
        try:
            with sqs_errors("sending to the dead-letter queue"):
                response = self._client.send_message(
                    QueueUrl=queue_url,
                    MessageBody=body,
                    MessageAttributes=text_attributes(attributes),
                )
        except QueueUnavailable as error:
            if sqs_error_code(error.__cause__) in CONTENT_REFUSED:
                return False
            raise
        if response.get("MD5OfMessageBody") != body_md5(body):
            raise QueueUnavailable(
                "SQS", "the dead-letter queue did not confirm the body it was sent"
            )
        return True

    def _change_visibility(
        self, action: str, messages: Sequence[Message], visibility_seconds: int
    ) -> list[Message]:
        def change(entries: Sequence[Any]) -> Any:
            return self._client.change_message_visibility_batch(
                QueueUrl=self.queue_url, Entries=entries
            )

        fields = {"VisibilityTimeout": visibility_seconds}
        stale, failed = self._for_each_ten(action, messages, fields, change)
        for message_id, code in failed.items():
            log.warning("SQS: %s message %s failed: %s; it comes back", action, message_id, code)
        return stale

    def _for_each_ten(
        self,
        action: str,
        messages: Sequence[Message],
        fields: dict[str, int],
        call: Callable[[Sequence[Any]], Any],
    ) -> tuple[list[Message], dict[str, str]]:
        """Call for ten messages at a time.

        Returns the messages whose receipt is stale, and the error codes of the other failures by
        message id.
        """
        stale: list[Message] = []
        others: dict[str, str] = {}
        for start in range(0, len(messages), MAX_ENTRIES):
            # Entry ids are positions: two deliveries of a message have the same message id.
            ten = messages[start : start + MAX_ENTRIES]
            entries = [
                {"Id": str(position), "ReceiptHandle": message.receipt_handle, **fields}
                for position, message in enumerate(ten)
            ]
            with sqs_errors(action):
                failed = call_batch(call, entries, self._closed, final_codes=STALE)
            for entry_id, code in failed.items():
                message = ten[int(entry_id)]
                if code in STALE:
                    stale.append(message)
                else:
                    others[message.message_id] = code
        return stale, others
