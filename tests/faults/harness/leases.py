"""Leases that end at once, so that a test need not wait for them."""

import contextlib
import time
from typing import Any

from botocore.exceptions import ClientError

from tests.faults.harness.world import POLL_SECONDS, FaultWorld


def end_leases(world: FaultWorld) -> None:
    """What dead workers are known to have held is visible again, as it would be after their leases.

    What was on its way to one that died stays hidden: nobody has its receipts.
    """
    # A poll that a dead worker left open would take it, for a whole lease.
    time.sleep(POLL_SECONDS)
    for handle in _handles(world):
        with contextlib.suppress(ClientError):
            world.sqs.change_message_visibility(
                QueueUrl=world.queue_url, ReceiptHandle=handle, VisibilityTimeout=0
            )


def _handles(world: FaultWorld) -> list[Any]:
    events = [event for event in world.events() if event.kind == "receipts"]
    return [handle for event in events for handle in event["handles"]]
