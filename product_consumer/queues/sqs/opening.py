"""Where messages come from. ``base.py`` is the contract; the implementations stand beside it."""

import json
import logging
from typing import TYPE_CHECKING

from product_consumer.errors import ConfigurationError
from product_consumer.queues.reject_log import RejectLog
from product_consumer.queues.sqs.queue import (
    SqsQueue,
    read_queue_attributes,
    sqs_client,
    sqs_errors,
)
from product_consumer.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

__all__ = ["open_queue"]

log = logging.getLogger(__name__)


def open_queue(settings: Settings, prefix: str = "SQS") -> SqsQueue:
    """Connect to a queue, check that it can be used, and find its dead-letter queue.

    ``prefix`` says which: ``SQS`` is the product queue (``SQS_QUEUE_URL``), ``ORDERS`` the orders.
    Raises ``ConfigurationError`` when no retry can help (no such queue, refused credentials, a FIFO
    queue) and ``QueueUnavailable`` when it cannot be reached now; then it may be called again.
    """
    url_setting, letters_setting = f"{prefix}_QUEUE_URL", f"{prefix}_DEAD_LETTER_QUEUE_URL"
    queue_url: str | None = getattr(settings, url_setting.lower())
    if queue_url is None:
        raise ConfigurationError(url_setting, "not set: needs the URL of the queue")
    client = sqs_client(settings)
    try:
        attributes = read_queue_attributes(client, queue_url, url_setting)
        if attributes.get("FifoQueue") == "true":
            raise ConfigurationError(url_setting, "a FIFO queue is not supported")
        policy = _redrive_policy(attributes.get("RedrivePolicy"))
        _warn_about_early_redrive(policy, settings.max_attempts)
        dead_letter_queue_url: str | None = getattr(settings, letters_setting.lower())
        if dead_letter_queue_url is not None:
            _check_dead_letter_queue(client, dead_letter_queue_url, queue_url, letters_setting)
        elif "deadLetterTargetArn" in policy:
            arn = policy["deadLetterTargetArn"]
            dead_letter_queue_url = _find_queue_url(client, arn, letters_setting)
    except BaseException:
        client.close()
        raise
    reject_log = RejectLog(settings.data_dir / "rejected.jsonl")
    log.info("Rejected messages go to %s", dead_letter_queue_url or reject_log.path)
    return SqsQueue(
        client=client,
        queue_url=queue_url,
        dead_letter_queue_url=dead_letter_queue_url,
        reject_log=reject_log,
        visibility_timeout_seconds=settings.sqs_visibility_timeout_seconds,
    )


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
        # Credentials that may only send there are a sensible policy.
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
    """The policy's fields as text; empty for none, or for one that is not JSON."""
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
