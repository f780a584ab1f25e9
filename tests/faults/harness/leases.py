"""Leases that end at once, so that a test need not wait for them."""

import contextlib
import time
from typing import Any

from botocore.exceptions import ClientError

from tests.faults.harness.world import POLL_SECONDS, FaultWorld


def end_leases(world: FaultWorld) -> None:
    """Make the messages of dead workers visible again, as the end of their leases would.

    A message stays hidden if its worker died before it arrived: nobody has its receipt.
    """
    # A poll that a dead worker left open would take a message for a whole lease.
    time.sleep(POLL_SECONDS)
    for handle in _handles(world):
        with contextlib.suppress(ClientError):
            world.sqs.change_message_visibility(
                QueueUrl=world.queue_url, ReceiptHandle=handle, VisibilityTimeout=0
            )


def _handles(world: FaultWorld) -> list[Any]:
    events = [event for event in world.events() if event.kind == "receipts"]
    return [handle for event in events for handle in event["handles"]]
