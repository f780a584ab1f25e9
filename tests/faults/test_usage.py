"""The measure of growth in long runs: it must find a small leak among values that vary."""

import os
import random
from pathlib import Path

from tests.faults.harness.usage import Usage, growth_kb, has_risen, read_usage


def samples(leaked_bytes: int, seed: int = 1) -> list[Usage]:
    """Of a worker that leaks so much with each of 20,000 messages, while 200 KB come and go."""
    draw = random.Random(seed)
    return [
        Usage(number, 200_000 + number * leaked_bytes // 1024 + draw.randrange(200), 50, 20)
        for number in range(0, 20_000, 1000)
    ]


def test_a_few_bytes_a_message_are_growth():
    assert 1200 < growth_kb(samples(leaked_bytes=137), messages=10_000) < 1500


def test_memory_that_goes_up_and_down_is_no_growth():
    assert abs(growth_kb(samples(leaked_bytes=0), messages=10_000)) < 100


def test_one_leaked_file_in_a_thousand_messages_is_a_rise():
    assert has_risen([50 + number + number * 7 % 4 for number in range(15)])


def test_files_that_come_and_go_are_no_rise():
    assert not has_risen([54, 70, 54, 55, 54, 58, 54, 62, 56, 54, 54, 57])


def test_the_usage_of_this_process_is_read():
    usage = read_usage(os.getpid(), messages=3)

    assert usage.messages == 3
    assert usage.resident_kb > 1000
    assert usage.threads >= 1
    with Path("/dev/null").open():
        assert read_usage(os.getpid(), messages=3).files == usage.files + 1
