"""Connects to Amazon SQS, or to a server that speaks its API, and translates its errors.

The only file that imports boto3.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import boto3.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    InvalidRegionError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
)

from product_consumer.errors import ConfigurationError, ProductConsumerError, QueueUnavailable
from product_consumer.queues.sqs.error_codes import NO_SUCH_QUEUE, NOT_ALLOWED, bare_code
from product_consumer.settings import Settings
from product_consumer.streams import StreamName

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.literals import QueueAttributeNameType

# Beside the consumer threads, the in-flight tracker and the readers of the backlog make calls.
_SPARE_CONNECTIONS = 4
_CONNECT_TIMEOUT_SECONDS = 5
_RESPONSE_SECONDS = 10
_REGION_IN_URL = re.compile(
    r"^https?://(?:sqs\.)?([a-z]{2}(?:-[a-z]+)+-\d)(?:\.queue)?\.(?:amazonaws\.com|api\.aws)"
)

_CREDENTIAL_ERRORS = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError)


def sqs_client(settings: Settings) -> "SQSClient":
    """Return a client that may be shared by all threads; nothing is contacted yet.

    Raises ``ConfigurationError`` naming the setting, or the variable of AWS, that cannot work.
    """
    access_key, secret_key = settings.sqs_access_key, settings.sqs_secret_key
    try:
        session = boto3.session.Session(
            aws_access_key_id=access_key.get_secret_value() if access_key else None,
            aws_secret_access_key=secret_key.get_secret_value() if secret_key else None,
        )
    except ProfileNotFound as error:
        raise ConfigurationError("AWS_PROFILE", str(error)) from error
    config = Config(
        # The only retries below the consumer loop, which waits for longer outages.
        retries={"mode": "standard", "total_max_attempts": 3},
        connect_timeout=_CONNECT_TIMEOUT_SECONDS,
        read_timeout=settings.sqs_wait_seconds + _RESPONSE_SECONDS,
        max_pool_connections=settings.threads + _SPARE_CONNECTIONS,
        tcp_keepalive=True,
        # All parameters are made here or came from SQS; checking them takes 5 % of a call's time.
        parameter_validation=False,
        # botocore builds its own user agent twice per call: a sixth of the call's CPU time.
        user_agent="product-consumer/1.0",
    )
    region = settings.aws_region or session.region_name or _region_for(settings)
    try:
        return session.client(
            "sqs", region_name=region, endpoint_url=settings.aws_endpoint_url, config=config
        )
    except InvalidRegionError as error:
        raise ConfigurationError("AWS_REGION", _in_words(error)) from error
    except ValueError as error:
        problem = "needs a URL such as http://host:port"
        raise ConfigurationError("AWS_ENDPOINT_URL", problem) from error
    except BotoCoreError as error:
        raise ConfigurationError("SQS_ACCESS_KEY", _in_words(error)) from error


def _region_for(settings: Settings) -> str:
    urls = [settings.queue_of(stream).url for stream in StreamName]
    match = _REGION_IN_URL.match(next(filter(None, urls), ""))
    if match:
        return match[1]
    if settings.aws_endpoint_url:
        return "us-east-1"
    raise ConfigurationError("AWS_REGION", "not set, and the queue's URL does not tell the region")


@contextmanager
def sqs_errors(action: str, url_setting: str | None = None) -> Iterator[None]:
    """Translate errors of boto3: they become ``QueueUnavailable``, whose text names ``action``.

    With ``url_setting``, as at a start, a missing queue and refused credentials become
    ``ConfigurationError``. Later they do not: a policy may be fixed while the messages wait.
    """
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        problem = _configuration_problem(error, url_setting) if url_setting else None
        raise problem or QueueUnavailable("SQS", f"{action}: {_in_words(error)}") from error


def sqs_error_code(error: BaseException | None) -> str:
    """Return the bare code of an error response of the server; empty for any other error."""
    if not isinstance(error, ClientError):
        return ""
    return bare_code(str(error.response.get("Error", {}).get("Code", "")))


def read_queue_attributes(
    client: "SQSClient", queue_url: str, url_setting: str
) -> dict["QueueAttributeNameType", str]:
    """Return all attributes of a queue; raises as ``sqs_errors`` with ``url_setting``."""
    with sqs_errors("reading the queue's attributes", url_setting):
        response = client.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["All"])
    return response.get("Attributes", {})


def _configuration_problem(
    error: ClientError | BotoCoreError, url_setting: str
) -> ProductConsumerError | None:
    if isinstance(error, _CREDENTIAL_ERRORS):
        return ConfigurationError("SQS_ACCESS_KEY", f"no credentials to use: {_in_words(error)}")
    code = sqs_error_code(error)
    if code in NO_SUCH_QUEUE:
        return ConfigurationError(
            url_setting, "no such queue at this endpoint, in this region and account"
        )
    if code in NOT_ALLOWED:
        return ConfigurationError(
            "SQS_ACCESS_KEY", f"the credentials were refused: {_in_words(error)}"
        )
    return None


def _in_words(error: ClientError | BotoCoreError) -> str:
    """Return one short line: AWS explains a wrong signature in many."""
    if not isinstance(error, ClientError):
        return str(error)[:300]
    message = str(error.response.get("Error", {}).get("Message", ""))
    return f"{sqs_error_code(error)}: {message}".splitlines()[0][:300]
