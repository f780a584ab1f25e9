"""Settings and looks for tests of SQS, whatever server answers them."""

from functools import cache
from typing import Any

from product_consumer.queues.sqs.client import sqs_client
from product_consumer.settings import Settings, read_settings

QUEUE_URL = "https://sqs.eu-west-1.amazonaws.com/000000000000/products"


def sqs_settings(**overrides: Any) -> Settings:
    """Settings with made-up keys and a queue of products."""
    keys = {"sqs_access_key": "key", "sqs_secret_key": "secret", "sqs_queue_url": QUEUE_URL}
    return read_settings(None, **(keys | overrides))


@cache
def client_to_stub() -> Any:
    """One client for all stubs, which let no call through: making a client takes a while."""
    return sqs_client(sqs_settings())


def attributes_of(client: Any, queue_url: str) -> dict[str, str]:
    """Return all attributes of a queue."""
    reply = client.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["All"])
    return dict(reply["Attributes"])
