"""A client of a real server, and a queue of its own for each test."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from product_consumer.queues.base import QueueUrls
from product_consumer.queues.sqs.admin import set_up_queues
from product_consumer.queues.sqs.client import sqs_client
from tests.support.sqs import sqs_settings


@pytest.fixture
def client(elasticmq_url: str) -> Iterator[Any]:
    client = sqs_client(sqs_settings(aws_endpoint_url=elasticmq_url))
    yield client
    client.close()


@pytest.fixture
def urls(client: Any) -> QueueUrls:
    name = f"unit-{uuid.uuid4().hex}"
    return set_up_queues(client, name, visibility_timeout_seconds=30)
