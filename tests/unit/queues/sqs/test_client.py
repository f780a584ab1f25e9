"""A client of SQS knows its region, or says which setting cannot work."""

import pytest

from product_consumer.errors import ConfigurationError
from product_consumer.queues.sqs.client import sqs_client
from tests.support.sqs import sqs_settings


@pytest.mark.parametrize(
    ("overrides", "region"),
    [
        ({"aws_region": "ap-southeast-1"}, "ap-southeast-1"),
        ({}, "eu-west-1"),
        ({"sqs_queue_url": "https://us-west-2.queue.amazonaws.com/1/q"}, "us-west-2"),
        (
            {"sqs_queue_url": "http://h/q", "aws_endpoint_url": "http://127.0.0.1:9324"},
            "us-east-1",
        ),
    ],
)
def test_the_region_is_the_setting_or_follows_from_the_queue(
    overrides: dict[str, str], region: str
) -> None:
    client = sqs_client(sqs_settings(**overrides))
    client.close()

    assert client.meta.region_name == region


def test_a_region_of_the_aws_environment_comes_before_the_queue_url(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    client = sqs_client(sqs_settings())
    client.close()

    assert client.meta.region_name == "eu-central-1"


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"sqs_queue_url": "https://queue.example/products"}, "AWS_REGION"),
        ({"aws_region": "not a region"}, "AWS_REGION"),
        ({"aws_endpoint_url": "localhost"}, "AWS_ENDPOINT_URL"),
    ],
)
def test_a_client_that_cannot_work_names_the_setting(overrides: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        sqs_client(sqs_settings(**overrides))

    assert refused.value.setting == named


def test_an_unknown_profile_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")

    with pytest.raises(ConfigurationError, match="nobody"):
        sqs_client(sqs_settings(sqs_access_key=None, sqs_secret_key=None))
