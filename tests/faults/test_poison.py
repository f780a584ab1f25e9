"""The whole catalogue of bad messages through a worker, with as many good messages."""

import random

import pytest

from tests.faults.harness.forked_workers import ForkServer
from tests.faults.harness.workload import Sent, product
from tests.faults.harness.world import FaultWorld
from tests.unit.products.test_parser_bad_messages import CATALOGUE

pytestmark = pytest.mark.timeout(170, func_only=True)

MAX_BODY_CHARACTERS = 20_000
"""A queue takes 256 KiB in one request of ten."""


def poisonous() -> list[Sent]:
    """The bad messages that a queue can carry, without those that depend on the date."""
    return [
        Sent(row.body, poison=row.reason)
        for row in CATALOGUE
        if row.reason not in (None, "version_in_future")
        and isinstance(row.body, str)
        and row.body
        and row.default_currency == "VND"
        and len(row.body) <= MAX_BODY_CHARACTERS
        and all(character >= " " or character in "\t\n\r" for character in row.body)
    ]


def check_mixed(world: FaultWorld, fork_server: ForkServer, copies: int) -> None:
    bad = poisonous() * copies
    good = [product(f"p{number % 50}", number, world.images_url) for number in range(len(bad))]
    messages = bad + good
    random.Random(copies).shuffle(messages)
    world.send_all(messages)
    worker = fork_server.start(world, settings={"BATCH_SIZE": "10"})
    world.wait_until_drained(120)
    world.stop(worker)

    assert len(world.sent) == len(messages)
    assert world.verdict() == []


def test_every_bad_message_is_rejected_and_no_good_one_suffers(
    world: FaultWorld, fork_server: ForkServer
) -> None:
    check_mixed(world, fork_server, copies=1)


@pytest.mark.soak
def test_much_poison_harms_no_good_message(world: FaultWorld, fork_server: ForkServer) -> None:
    check_mixed(world, fork_server, copies=10)
