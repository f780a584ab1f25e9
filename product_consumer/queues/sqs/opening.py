"""Opens queues and senders on SQS: the ``Transport`` that ``queues/opening.py`` calls."""

import json
import logging
from typing import TYPE_CHECKING

from product_consumer.errors import ConfigurationError
from product_consumer.queue_addresses import QueueAddress
from product_consumer.queues.base import QueueUrls
from product_consumer.queues.reject_log import RejectLog
from product_consumer.queues.sqs.admin import set_up_queues
from product_consumer.queues.sqs.client import read_queue_attributes, sqs_client, sqs_errors
from product_consumer.queues.sqs.conversion import queue_name
from product_consumer.queues.sqs.queue import SqsQueue
from product_consumer.queues.sqs.sender import SqsSender
from product_consumer.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

NAME = "SQS"
HAS_DEAD_LETTER_URLS = True
DEFAULT_RECEIVE_COUNT = 12
"""Of a redrive policy; above the default of ``MAX_ATTEMPTS``."""
AWS_COUNTS_LAG_SECONDS = 60.0
"""AWS's own counts lag by up to a minute."""

log = logging.getLogger(__name__)


def open_queue(settings: Settings, address: QueueAddress, label: str = NAME) -> SqsQueue:
    """Connect to a queue, check that it can be used, and find its dead-letter queue.

    Raises ``ConfigurationError`` when no retry can help (no such queue, refused credentials, a FIFO
    queue) and ``QueueUnavailable`` when it cannot be reached now; then it may be called again.
    """
    queue_url = address.require_url()
    client = sqs_client(settings, address)
    try:
        dead_letter_queue_url = _check_queues(client, address, settings.max_attempts)
    except BaseException:
        client.close()
        raise
    reject_log = RejectLog(settings.reject_log_path)
    log.info("Rejected messages go to %s", dead_letter_queue_url or reject_log.path)
    return SqsQueue(
        client,
        queue_url,
        dead_letter_queue_url,
        reject_log,
        settings.lease_seconds,
        label,
        # Servers that speak the API of SQS count what is there.
        0.0 if settings.aws_endpoint_url else AWS_COUNTS_LAG_SECONDS,
        address.url_setting,
    )


def open_dead_letter_queue(
    settings: Settings, address: QueueAddress, visibility_timeout_seconds: int
) -> SqsQueue | None:
    """Return the dead-letter queue of a queue; None where there is none. Raises as ``open_queue``.

    Its label is its name.
    """
    source = open_queue(settings, address)
    source.close()
    queue_url = source.dead_letter_queue_url
    if queue_url is None:
        return None
    return SqsQueue(
        sqs_client(settings, address),
        queue_url,
        None,
        RejectLog(settings.reject_log_path),
        visibility_timeout_seconds,
        queue_name(queue_url),
    )


def open_sender(settings: Settings, address: QueueAddress) -> SqsSender:
    """Return a sender to a queue; nothing is contacted yet."""
    return SqsSender(sqs_client(settings, address), address.require_url())


def set_up_queue(
    settings: Settings, address: QueueAddress, name: str | None, max_receive_count: int | None
) -> QueueUrls:
    """Create a queue and its dead-letter queue, or set the attributes of existing ones.

    Without a name it is the stream's.
    """
    client = sqs_client(settings, address)
    try:
        return set_up_queues(
            client,
            name or str(address.stream),
            visibility_timeout_seconds=settings.lease_seconds,
            max_receive_count=max_receive_count or DEFAULT_RECEIVE_COUNT,
        )
    finally:
        client.close()


def _check_queues(client: "SQSClient", address: QueueAddress, max_attempts: int) -> str | None:
    """Check a queue and its dead-letter queue; return the dead-letter queue's URL, if any."""
    queue_url, setting = address.require_url(), address.dead_letter_url_setting
    attributes = read_queue_attributes(client, queue_url, address.url_setting)
    if attributes.get("FifoQueue") == "true":
        raise ConfigurationError(address.url_setting, "a FIFO queue is not supported")
    policy = _redrive_policy(attributes.get("RedrivePolicy"))
    _warn_about_early_redrive(policy, max_attempts)
    if address.dead_letter_url is not None:
        _check_dead_letter_queue(client, address.dead_letter_url, queue_url, setting)
        return address.dead_letter_url
    if "deadLetterTargetArn" in policy:
        return _find_queue_url(client, policy["deadLetterTargetArn"], setting)
    return None


def _check_dead_letter_queue(
    client: "SQSClient", queue_url: str, source_url: str, setting: str
) -> None:
    """Raise ``ConfigurationError`` when rejected messages cannot go to this queue."""
    if queue_url == source_url:
        raise ConfigurationError(setting, "is the queue that it should serve")
    try:
        attributes = read_queue_attributes(client, queue_url, setting)
    except ConfigurationError as error:
        if error.setting == setting:
            raise
        # Credentials that may send there and no more are a sensible policy.
        return
    if attributes.get("FifoQueue") == "true":
        raise ConfigurationError(setting, "a FIFO queue is not supported")


def _find_queue_url(client: "SQSClient", arn: str, url_setting: str) -> str:
    """Return the URL of the queue with an ARN, ``arn:aws:sqs:<region>:<account>:<name>``.

    Raises ``ConfigurationError`` naming ``url_setting`` when there is no such queue or it may not
    be looked up.
    """
    account, name = arn.split(":")[-2:] if arn.count(":") >= 5 else ("", arn)
    try:
        with sqs_errors("looking up the dead-letter queue", url_setting):
            owner = {"QueueOwnerAWSAccountId": account} if account.isdecimal() else {}
            return client.get_queue_url(QueueName=name, **owner)["QueueUrl"]
    except ConfigurationError as error:
        problem = f"needs the URL of {name}, which the redrive policy names: {error.problem}"
        raise ConfigurationError(url_setting, problem) from error


def _redrive_policy(text: str | None) -> dict[str, str]:
    """Return the policy's fields as text; empty without a policy, or where it is not JSON."""
    try:
        policy = json.loads(text or "{}")
    except ValueError:
        return {}
    return {str(k): str(v) for k, v in policy.items()} if isinstance(policy, dict) else {}


def _warn_about_early_redrive(policy: dict[str, str], max_attempts: int) -> None:
    receives = policy.get("maxReceiveCount", "")
    if receives.isdecimal() and int(receives) <= max_attempts:
        log.warning(
            "The queue's redrive policy takes messages away after %s receives, without a reason: "
            "its maxReceiveCount should be above MAX_ATTEMPTS (%d)",
            receives,
            max_attempts,
        )
