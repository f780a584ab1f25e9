"""Connects to Amazon SQS, or to a server that speaks its API, and translates its errors.

The only file that imports boto3.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import boto3.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import SecretStr

from product_consumer.environment import is_set, variable_quoted_in
from product_consumer.errors import ConfigurationError, ProductConsumerError, QueueUnavailable
from product_consumer.network.tls import cause_in_words, why_plain_fails
from product_consumer.queue_addresses import QueueAddress, StreamName
from product_consumer.queues.sqs.error_codes import NO_SUCH_QUEUE, bare_code
from product_consumer.refusals import SQS, find_refusal
from product_consumer.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.literals import QueueAttributeNameType

# Beside the consumer threads, the in-flight tracker and the readers of the backlog make calls.
_SPARE_CONNECTIONS = 4
_CONNECT_TIMEOUT_SECONDS = 5
_RESPONSE_SECONDS = 10
_REGION_IN_URL = re.compile(
    r"^https?://(?:[\w-]+\.)*?([a-z]{2}(?:-[a-z]+)+-\d+)(?:\.queue|\.vpce)?"
    r"\.(?:amazonaws\.com|api\.aws|localhost\.localstack\.cloud)"
)
# The first queues of AWS have URLs without a region.
_FIRST_REGION, _FIRST_URL = "us-east-1", re.compile(r"^https?://queue\.amazonaws\.com/")
_AWS_HOST = re.compile(r"^https?://[^/]*\.(?:amazonaws\.com|api\.aws)", re.IGNORECASE)
# Where no variable says otherwise.
_AWS_FILE = "AWS_CONFIG_FILE"
_TOKEN_IS_MISSING = ("UnrecognizedClientException", "InvalidClientTokenId")


def sqs_client(settings: Settings, address: QueueAddress | None = None) -> "SQSClient":
    """Return a client that may be shared by all threads; nothing is contacted yet.

    ``address``: the queue that it is for. The region in its URL wins over ``AWS_REGION``. Raises
    ``ConfigurationError`` naming the setting, or the variable of AWS, that cannot work.
    """
    try:
        return _checked(_new_client(settings, address), settings, address)
    except (BotoCoreError, OSError, ValueError, LookupError) as error:
        # Files and variables that boto3 reads for itself.
        raise _configuration_problem(error) or _unreadable(error) from error


def _new_client(settings: Settings, address: QueueAddress | None) -> "SQSClient":
    session = boto3.session.Session(
        aws_access_key_id=_plain(settings.sqs_access_key),
        aws_secret_access_key=_plain(settings.sqs_secret_key),
        aws_session_token=_plain(settings.sqs_session_token),
    )
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
    found: str | None = session.region_name
    region = _region_of(address) or settings.aws_region or found or _region_of_any(settings)
    if region is None and settings.aws_endpoint_url is None:
        problem = "not set, and the queue's URL does not tell the region"
        raise ConfigurationError("AWS_REGION", problem)
    return session.client(
        "sqs",
        region_name=region or _FIRST_REGION,
        endpoint_url=settings.aws_endpoint_url,
        config=config,
    )


def _checked(client: "SQSClient", settings: Settings, address: QueueAddress | None) -> "SQSClient":
    """Return a client whose region and endpoint can be right; for AWS only, others name theirs."""
    if not _AWS_HOST.match(client.meta.endpoint_url):
        return client
    region = client.meta.region_name
    if not _is_known(region):
        setting = address.url_setting if address and _region_of(address) else "AWS_REGION"
        raise ConfigurationError(setting, f"{region!r} is no region that boto3 knows")
    url = address.url if address and settings.aws_endpoint_url is None else None
    if address and url and not _AWS_HOST.match(url):
        problem = f"not set, and {address.url_setting} is not a URL of AWS"
        raise ConfigurationError("AWS_ENDPOINT_URL", problem)
    return client


def _region_of_any(settings: Settings) -> str | None:
    regions = (_region_of(settings.queue_of(stream)) for stream in StreamName)
    return next(filter(None, regions), None)


def _plain(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None


def _is_known(region: str) -> bool:
    session = boto3.session.Session()
    return any(
        region in session.get_available_regions("sqs", partition)
        for partition in session.get_available_partitions()
    )


def _region_of(address: QueueAddress | None) -> str | None:
    """Return the region that a queue's URL tells; None where it tells none."""
    url = (address.url if address else None) or ""
    match = _REGION_IN_URL.match(url)
    return match[1] if match else _FIRST_REGION if _FIRST_URL.match(url) else None


@contextmanager
def sqs_errors(action: str, url_setting: str | None = None) -> Iterator[None]:
    """Translate errors of boto3: they become ``QueueUnavailable``, whose text names ``action``.

    With ``url_setting``, as at a start, a missing queue and refused credentials become
    ``ConfigurationError``. Later they do not: a policy may be fixed while the messages wait.
    """
    try:
        yield
    except (ClientError, BotoCoreError, OSError, ValueError) as error:
        # The last two come from files of credentials, which boto3 reads at a call.
        if isinstance(error, ValueError) and url_setting is None:
            raise
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
    try:
        with sqs_errors("reading the queue's attributes", url_setting):
            response = client.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["All"])
    except QueueUnavailable as error:
        parts = urlsplit(client.meta.endpoint_url)
        code = sqs_error_code(error.__cause__)
        # A code in words came from a server that could be asked.
        has_answered = code != "" and not code.isdecimal()
        if has_answered or parts.scheme == "https":
            raise
        if why_plain_fails(parts.hostname or "", parts.port or 80):
            problem = "starts with http://, and what answers speaks TLS only: write https://"
            raise ConfigurationError("AWS_ENDPOINT_URL", problem) from None
        raise
    return response.get("Attributes", {})


def _configuration_problem(
    error: Exception, url_setting: str | None = None
) -> ProductConsumerError | None:
    code = sqs_error_code(error)
    if code in NO_SUCH_QUEUE and url_setting:
        return ConfigurationError(
            url_setting, "no such queue at this endpoint, in this region and account"
        )
    names = [kind.__name__ for kind in type(error).__mro__]
    words = _in_words(error)
    refusal = find_refusal(SQS, [code, *names] if code else names, words)
    if refusal is None:
        return _unreadable(error) if isinstance(error, (OSError, ValueError)) else None
    if refusal.setting is None:
        return QueueUnavailable("SQS", f"{words} ({refusal.why})")
    if code in _TOKEN_IS_MISSING and is_set("AWS_SESSION_TOKEN") and is_set("SQS_ACCESS_KEY"):
        words += " (AWS_SESSION_TOKEN is not the token of SQS_ACCESS_KEY: set SQS_SESSION_TOKEN)"
    setting = refusal.setting
    if setting == _AWS_FILE:
        setting = variable_quoted_in(words, "AWS_") or setting
    return ConfigurationError(setting, f"{refusal.why}: {words}")


def _unreadable(error: Exception) -> ConfigurationError:
    """Name what boto3 reads for itself: its variables and its files."""
    place = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
    problem = f"{place}{_in_words(error)}"
    return ConfigurationError(variable_quoted_in(problem, "AWS_") or _AWS_FILE, problem)


def _in_words(error: Exception) -> str:
    """Return one short line: AWS explains a wrong signature in many."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if not isinstance(error, ClientError):
        text, cause = " ".join(str(error).split()), cause_in_words(error)
        return (text if cause in text else f"{text} {cause}")[:300]
    message = str(error.response.get("Error", {}).get("Message", ""))
    return f"{sqs_error_code(error)}: {message}".splitlines()[0][:300]
