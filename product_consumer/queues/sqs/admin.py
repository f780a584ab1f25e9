"""Sets up queues on SQS: for operators, demos and tests, not for the worker."""

import json
import re
from typing import TYPE_CHECKING

from product_consumer.errors import ConfigurationError, QueueUnavailable
from product_consumer.queues.base import QueueUrls
from product_consumer.queues.sqs.client import sqs_error_code, sqs_errors

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.literals import QueueAttributeNameType

_DAY_SECONDS = 86_400
_RETENTION_SECONDS = 4 * _DAY_SECONDS
# A message that SQS moves by itself keeps its age, so the dead-letter queue keeps messages longer.
_DEAD_LETTER_RETENTION_SECONDS = 14 * _DAY_SECONDS
_DEAD_LETTER_SUFFIX = "-dead-letter"
# SQS allows 80 characters, the suffix included.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,68}", re.ASCII)
_QUEUE_EXISTS = {"QueueNameExists", "QueueAlreadyExists"}


def set_up_queues(
    client: "SQSClient",
    name: str,
    *,
    visibility_timeout_seconds: int,
    max_receive_count: int = 12,
) -> QueueUrls:
    """Create the queue ``name`` and ``<name>-dead-letter``, or set the attributes of existing ones.

    ``max_receive_count`` should be above ``MAX_ATTEMPTS``: the redrive policy is for messages that
    end the process before they can be rejected with a reason. Raises ``ConfigurationError`` for
    refused credentials or a name that SQS does not allow, else ``QueueUnavailable``.
    """
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            "queue name", f"{name!r}: needs 1 to 68 letters, digits, '-' or '_' (no FIFO queue)"
        )
    dead_letter_queue_url = _create_queue(
        client,
        name + _DEAD_LETTER_SUFFIX,
        {"MessageRetentionPeriod": str(_DEAD_LETTER_RETENTION_SECONDS)},
    )
    with sqs_errors("reading the dead-letter queue's ARN", "queue name"):
        response = client.get_queue_attributes(
            QueueUrl=dead_letter_queue_url, AttributeNames=["QueueArn"]
        )
    policy = {
        "deadLetterTargetArn": response["Attributes"]["QueueArn"],
        "maxReceiveCount": str(max_receive_count),
    }
    queue_url = _create_queue(
        client,
        name,
        {
            "VisibilityTimeout": str(visibility_timeout_seconds),
            "MessageRetentionPeriod": str(_RETENTION_SECONDS),
            "RedrivePolicy": json.dumps(policy),
        },
    )
    return QueueUrls(queue_url, dead_letter_queue_url)


def _create_queue(
    client: "SQSClient", name: str, attributes: "dict[QueueAttributeNameType, str]"
) -> str:
    """Create a queue, or set the attributes of an existing queue; return its URL."""
    try:
        with sqs_errors(f"creating the queue {name}", "queue name"):
            return client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    except QueueUnavailable as error:
        if sqs_error_code(error.__cause__) not in _QUEUE_EXISTS:
            raise
    with sqs_errors(f"setting the attributes of the queue {name}", "queue name"):
        queue_url = client.get_queue_url(QueueName=name)["QueueUrl"]
        client.set_queue_attributes(QueueUrl=queue_url, Attributes=attributes)
    return queue_url
