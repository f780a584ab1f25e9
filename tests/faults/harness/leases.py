"""Leases that end at once, so that a test need not wait for them."""

from typing import Any

from tests.faults.harness.world import FaultWorld


def end_leases(world: FaultWorld) -> None:
    """Make the messages of dead workers visible again, as the end of their leases would."""
    world.queues.end_leases(world.queue_url, _handles(world))


def _handles(world: FaultWorld) -> list[Any]:
    events = [event for event in world.events() if event.kind == "receipts"]
    return [handle for event in events for handle in event["handles"]]
