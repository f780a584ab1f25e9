"""A client of SQS knows its region, or says which setting cannot work."""

import pytest

from product_consumer.errors import ConfigurationError
from product_consumer.queue_addresses import StreamName
from product_consumer.queues.sqs.client import sqs_client
from tests.support.sqs import sqs_settings


@pytest.mark.parametrize(
    ("overrides", "region"),
    [
        ({"aws_region": "ap-southeast-1"}, "eu-west-1"),
        ({}, "eu-west-1"),
        ({"sqs_queue_url": "https://us-west-2.queue.amazonaws.com/1/q"}, "us-west-2"),
        (
            {"sqs_queue_url": "http://h/q", "aws_endpoint_url": "http://127.0.0.1:9324"},
            "us-east-1",
        ),
        (
            {
                "sqs_queue_url": "http://h/q",
                "aws_endpoint_url": "http://127.0.0.1:9324",
                "aws_region": "ap-southeast-1",
            },
            "ap-southeast-1",
        ),
        ({"sqs_queue_url": "https://queue.amazonaws.com/1/q"}, "us-east-1"),
        ({"sqs_queue_url": "https://sqs-fips.us-gov-west-1.amazonaws.com/1/q"}, "us-gov-west-1"),
        (
            {"sqs_queue_url": "https://vpce-1a.sqs.eu-north-1.vpce.amazonaws.com/1/q"},
            "eu-north-1",
        ),
    ],
)
def test_the_region_is_that_of_the_queues_url_before_that_of_the_setting(
    overrides: dict[str, str], region: str
) -> None:
    settings = sqs_settings(**overrides)
    client = sqs_client(settings, settings.queue_of(StreamName.PRODUCTS))
    client.close()

    assert client.meta.region_name == region


def test_two_queues_in_two_regions_have_a_client_each() -> None:
    settings = sqs_settings(
        orders_queue_url="https://sqs.ap-southeast-1.amazonaws.com/1/orders", aws_region="us-east-1"
    )
    regions = []
    for stream in StreamName:
        client = sqs_client(settings, settings.queue_of(stream))
        client.close()
        regions.append((client.meta.region_name, client.meta.endpoint_url))

    assert regions == [
        ("eu-west-1", "https://sqs.eu-west-1.amazonaws.com"),
        ("ap-southeast-1", "https://sqs.ap-southeast-1.amazonaws.com"),
    ]


def test_a_region_of_the_aws_environment_is_for_urls_that_tell_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    client = sqs_client(sqs_settings())
    client.close()

    assert client.meta.region_name == "eu-central-1"


def test_temporary_keys_have_a_token() -> None:
    client = sqs_client(sqs_settings(aws_region="eu-west-1", sqs_session_token="the-token"))
    client.close()

    credentials = client._request_signer._credentials  # type: ignore[attr-defined]
    assert credentials.token == "the-token"


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"sqs_queue_url": "https://queue.example/products"}, "AWS_REGION"),
        (
            {"sqs_queue_url": "https://queue.example/q", "aws_region": "not a region"},
            "AWS_REGION",
        ),
        ({"sqs_queue_url": "https://sqs.eu-wset-1.amazonaws.com/1/q"}, "SQS_QUEUE_URL"),
        (
            {"sqs_queue_url": "http://localhost:9324/1/q", "aws_region": "eu-west-1"},
            "AWS_ENDPOINT_URL",
        ),
    ],
)
def test_a_client_that_cannot_work_names_the_setting(overrides: dict[str, str], named: str) -> None:
    settings = sqs_settings(**overrides)
    with pytest.raises(ConfigurationError) as refused:
        sqs_client(settings, settings.queue_of(StreamName.PRODUCTS))

    assert refused.value.setting == named


def test_an_unknown_profile_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")

    with pytest.raises(ConfigurationError, match="nobody"):
        sqs_client(sqs_settings(sqs_access_key=None, sqs_secret_key=None))
