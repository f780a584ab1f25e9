"""The long runs: the whole workload under twenty kills, a duplicate storm, memory under load."""

import random
from pathlib import Path

import pytest

from tests.faults.harness.arena import Arena, kill_at_random
from tests.faults.harness.workload import Sent, product, workload

RESIDENT_GROWTH_KB = 40_000


def storm(arena: Arena, messages: int, copies: int) -> None:
    distinct = [
        product(f"p{number % (messages // 4)}", 1 + number // 4, arena.images_url)
        for number in range(messages)
    ]
    every: list[Sent] = distinct * copies
    random.Random(copies).shuffle(every)
    workers = [arena.start(), arena.start()]
    arena.send_all(every)
    arena.wait_until_drained(300)
    arena.stop(*workers)

    assert arena.verdict() == []


@pytest.mark.timeout(120, func_only=True)
def test_a_duplicate_storm_counts_every_event_once(arena: Arena) -> None:
    storm(arena, messages=20, copies=20)


@pytest.mark.soak
@pytest.mark.timeout(600, func_only=True)
def test_a_long_duplicate_storm_counts_every_event_once(arena: Arena) -> None:
    storm(arena, messages=500, copies=20)


@pytest.mark.soak
@pytest.mark.timeout(900, func_only=True)
def test_twenty_kills_under_two_thousand_messages(arena: Arena) -> None:
    messages = workload(2000, arena.images_url, seed=20)
    with arena.observed():
        workers = kill_at_random(arena, messages, 20, arena.start, seed=21)
        arena.wait_until_drained(240)
        arena.wait_until_unmarked(60)
        arena.stop(*workers)

    assert arena.verdict(marks_are_due=True) == []


@pytest.mark.soak
@pytest.mark.timeout(1200, func_only=True)
def test_memory_stays_flat_over_twenty_thousand_messages(arena: Arena) -> None:
    messages = workload(20_000, arena.images_url, seed=30)
    worker = arena.start(threads=8, settings={"BATCH_SIZE": "10"})
    fifth = len(messages) // 5
    arena.send_all(messages[:fifth])
    arena.wait_until_drained(300)
    warm = resident_kb(worker.process.pid)
    arena.send_all(messages[fifth:])
    arena.wait_until_drained(900)
    grown = resident_kb(worker.process.pid) - warm
    arena.stop(worker)

    assert grown < RESIDENT_GROWTH_KB
    assert arena.verdict() == []


def resident_kb(process: int) -> int:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS in /proc")
