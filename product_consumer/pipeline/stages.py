"""Signs of life: which thread is at which stage since when, and which has been there too long."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic

BETWEEN = "between stages"
OTHER_STAGE_SECONDS = 120.0
"""Limit of a stage that the limits do not name."""
TURN_SECONDS = 60.0
"""How long a call to the ledger or a store may wait to be made together with other threads'."""


@dataclass(slots=True)
class _Beat:
    stage: str
    at: float


class Beats:
    """Every method may be called from any thread; none blocks.

    A thread is watched from its first ``at`` to its ``leave``. It beats when it enters a stage and
    whenever it ``touch``es: long work does so between two steps that each have a bound.

    ``limits``: for a stage by name, the longest time in seconds without a beat; replace it before
    threads start. ``clock`` returns monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.limits: Mapping[str, float] = {}
        self._clock = clock
        self._beats: dict[threading.Thread, _Beat] = {}

    def at(self, stage: str) -> None:
        """The calling thread enters a stage."""
        self._beats[threading.current_thread()] = _Beat(stage, self._clock())

    def touch(self) -> None:
        """The calling thread gets on with its stage; nothing happens for one that is not watched.

        Waiting for something that is known to be down, or for work, counts as getting on.
        """
        beat = self._beats.get(threading.current_thread())
        if beat is not None:
            self.at(beat.stage)

    def leave(self) -> None:
        """The calling thread ends as it should and is no longer watched."""
        self._beats.pop(threading.current_thread(), None)

    def overdue(self) -> list[str]:
        """Say of each watched thread that ended by itself or is beyond its limit which it is, at
        what and since when.
        """
        now = self._clock()
        found = []
        for thread, beat in list(self._beats.items()):
            age = now - beat.at
            if not thread.is_alive():
                found.append(f"{thread.name} died at {beat.stage}")
            elif age > self.limits.get(beat.stage, OTHER_STAGE_SECONDS):
                found.append(f"{thread.name} has been at {beat.stage} for {age:.0f} s")
        return found


def stage_limits(
    *,
    wait_seconds: float,
    store_timeout_seconds: float,
    image_timeout_seconds: float,
    answer_seconds: float,
) -> dict[str, float]:
    """Return the longest time without a beat for every stage of a worker, in seconds.

    Each is the bound that the stage's own calls have, with a margin: whatever takes longer is not
    slow but stuck. ``wait_seconds``: of a long poll; ``answer_seconds``: how long the model may
    take, which ends such a wait by itself.
    """
    # Three attempts to connect (5 s) and read (the poll and 10 s), and the pauses between them.
    queue = 3 * (wait_seconds + 15.0) + 30.0
    # One action is a few calls; a breaker beats between actions, probes and its pauses of 30 s.
    store = 3 * store_timeout_seconds + 30.0 + TURN_SECONDS
    # First for room in the model's queue, then for the answer.
    embed = 2 * answer_seconds + 15.0
    return {
        "receive": queue,
        "settle": queue,
        "extend": queue,
        "validate": 45.0,
        "look_up": store,
        "fetch_image": image_timeout_seconds + 30.0,
        "prepare": 45.0,
        "embed": embed,
        "ledger": store,
        "stores": store,
        "validate_order": 45.0,
        "order_ledger": store,
        "redis": store,
        # It may be waiting for its next attempt, a minute at most.
        "sweep": store + 60.0,
        # What killed a process before is embedded alone, while the others wait between stages.
        BETWEEN: max(embed, OTHER_STAGE_SECONDS),
    }
