"""Queues are set up as asked."""

import json
from typing import Any

import pytest

from product_consumer.errors import ConfigurationError
from product_consumer.queues.base import QueueUrls
from product_consumer.queues.sqs.admin import set_up_queues
from product_consumer.queues.sqs.sender import publish
from tests.support.sqs import attributes_of


def test_set_up_creates_a_queue_whose_dead_letters_are_kept_longer(
    client: Any, urls: QueueUrls
) -> None:
    attributes = attributes_of(client, urls.queue_url)
    policy = json.loads(attributes["RedrivePolicy"])

    assert attributes["VisibilityTimeout"] == "30"
    assert int(policy["maxReceiveCount"]) == 12
    assert policy["deadLetterTargetArn"].endswith("-dead-letter")


def test_setting_up_again_changes_the_attributes_and_keeps_the_messages(
    client: Any, urls: QueueUrls
) -> None:
    publish(client, urls.queue_url, ["A"])
    name = urls.queue_url.rpartition("/")[2]

    again = set_up_queues(client, name, visibility_timeout_seconds=45, max_receive_count=20)

    attributes = attributes_of(client, urls.queue_url)
    assert again == urls
    assert attributes["VisibilityTimeout"] == "45"
    assert int(json.loads(attributes["RedrivePolicy"])["maxReceiveCount"]) == 20
    assert attributes["ApproximateNumberOfMessages"] == "1"


@pytest.mark.parametrize("name", ["", "products.fifo", "a b", "x" * 69, "a/b"])
def test_a_name_that_sqs_does_not_allow_is_refused(client: Any, name: str) -> None:
    with pytest.raises(ConfigurationError, match="queue name"):
        set_up_queues(client, name, visibility_timeout_seconds=30)
