"""The whole catalogue of bad messages, one for each good one, through a worker."""

import random

import pytest

from tests.faults.harness.forked_workers import Nursery
from tests.faults.harness.workload import Sent, product
from tests.faults.harness.world import Arena
from tests.unit.products.test_parser_bad_messages import CATALOGUE

pytestmark = pytest.mark.timeout(170, func_only=True)

MAX_BODY_CHARACTERS = 20_000
"""A queue takes 256 KiB in one request of ten."""


def poisonous() -> list[Sent]:
    """What a queue can carry of it; what depends on the day is left out."""
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


def check_mixed(arena: Arena, nursery: Nursery, copies: int) -> None:
    bad = poisonous() * copies
    good = [product(f"p{number % 50}", number, arena.images_url) for number in range(len(bad))]
    messages = bad + good
    random.Random(copies).shuffle(messages)
    arena.send_all(messages)
    worker = nursery.start(arena, settings={"BATCH_SIZE": "10"})
    arena.wait_until_drained(120)
    arena.stop(worker)

    assert len(arena.sent) == len(messages)
    assert arena.verdict() == []


def test_every_bad_message_is_rejected_and_no_good_one_suffers(
    arena: Arena, nursery: Nursery
) -> None:
    check_mixed(arena, nursery, copies=1)


@pytest.mark.soak
def test_much_poison_harms_no_good_message(arena: Arena, nursery: Nursery) -> None:
    check_mixed(arena, nursery, copies=10)
