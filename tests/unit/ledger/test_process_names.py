"""A process is known by its name as long as it runs, and as ended from then on."""

import os
import subprocess
import sys

import pytest

from product_consumer.ledger import process_names
from product_consumer.ledger.process_names import has_ended, name_of, name_of_this_process

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux tells when a process started"
)


def test_this_process_has_one_name_and_has_not_ended() -> None:
    assert name_of_this_process() == name_of_this_process()
    assert has_ended(name_of_this_process()) is False


def test_a_process_has_ended_once_it_is_killed_even_before_its_parent_notices() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        name = name_of(child.pid)
        assert has_ended(name) is False

        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert has_ended(name) is True

    assert has_ended(name) is True


def test_a_later_process_with_the_same_number_is_another_one() -> None:
    machine_and_number = name_of_this_process().rpartition(" ")[0]

    assert has_ended(f"{machine_and_number} 1") is True


def test_nothing_is_known_of_a_process_on_another_machine() -> None:
    assert has_ended("another/pid:[1] 1 1") is None
    assert has_ended("") is None


def test_where_the_system_tells_nothing_a_process_still_has_a_name_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setattr(process_names, "_PROCESSES", tmp_path)

    assert name_of_this_process() != name_of_this_process()
    assert has_ended(name_of_this_process()) is None
