"""Signals that stop: a hangup drains, and never counts as a second signal."""

import os
import signal

from product_consumer.runtime.signals import Shutdown


def test_a_hangup_asks_for_a_stop() -> None:
    with Shutdown() as shutdown:
        os.kill(os.getpid(), signal.SIGHUP)

        assert shutdown.stopping.wait(5.0)


def test_a_hangup_beside_another_signal_ends_nothing_at_once() -> None:
    """Shells send it more than once, and systemd after SIGTERM."""
    released: list[float] = []
    with Shutdown() as shutdown:
        shutdown.release = released.append
        for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), number)
            assert shutdown.stopping.wait(5.0)

    assert released == []


def test_an_ignored_hangup_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Shutdown() as shutdown:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert not shutdown.stopping.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)
