"""Stages: which thread is in which stage, since when, and how long it may stay there.

One object watches a whole process, however many streams and counters it has: a thread is alive or
stuck in the process, not in a stream.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic, perf_counter

BETWEEN = "between stages"
OTHER_STAGE_SECONDS = 120.0
"""Timeout of a stage that ``timeouts`` does not name."""
TURN_SECONDS = 60.0
"""How long a call to the ledger or a store may wait for the group commit that carries it."""


@dataclass(slots=True)
class _Stay:
    stage: str
    since: float


def _do_nothing(_stage: str, _seconds: float) -> None:
    """Time no stages."""


class Stages:
    """The current stages of all threads of one process. Thread-safe; no method blocks.

    A thread is watched from its first ``enter`` to its ``leave``. Its time starts again when it
    enters a stage and when it calls ``touch``. Long work calls ``touch`` between steps that each
    have a bound.

    ``observe``: called after each ``stage`` block with its name and seconds. ``timeouts``: for a
    stage by name, the longest stay in seconds; set it before threads start. ``clock``: monotonic
    seconds.
    """

    def __init__(
        self,
        observe: Callable[[str, float], None] = _do_nothing,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.timeouts: Mapping[str, float] = {}
        self._observe = observe
        self._clock = clock
        self._stays: dict[threading.Thread, _Stay] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block as one batch's stay in the stage ``name``, and watch the thread in it."""
        self.enter(name)
        started = perf_counter()
        try:
            yield
        finally:
            self._observe(name, perf_counter() - started)
            self.enter(BETWEEN)

    def enter(self, stage: str) -> None:
        """Begin a stage in the calling thread."""
        self._stays[threading.current_thread()] = _Stay(stage, self._clock())

    def touch(self) -> None:
        """Report progress of the calling thread in its stage, if the thread is watched.

        Waiting for work, or for a dependency that is known to be down, is progress too.
        """
        stay = self._stays.get(threading.current_thread())
        if stay is not None:
            self.enter(stay.stage)

    def leave(self) -> None:
        """Stop watching the calling thread, which ends as it should."""
        self._stays.pop(threading.current_thread(), None)

    def overdue(self) -> list[str]:
        """Describe each watched thread that died, or has been in a stage for too long."""
        now = self._clock()
        overdue = []
        for thread, stay in list(self._stays.items()):
            seconds = now - stay.since
            if not thread.is_alive():
                overdue.append(f"{thread.name} died at {stay.stage}")
            elif seconds > self.timeouts.get(stay.stage, OTHER_STAGE_SECONDS):
                overdue.append(f"{thread.name} has been at {stay.stage} for {seconds:.0f} s")
        return overdue


def stage_timeouts(
    *,
    wait_seconds: float,
    store_timeout_seconds: float,
    image_timeout_seconds: float,
    answer_seconds: float,
) -> dict[str, float]:
    """Return the longest stay without progress for every stage of a worker, in seconds.

    Each is the bound of the stage's own calls, with a margin: a thread that takes longer is not
    slow but stuck. ``wait_seconds``: of a long poll. ``answer_seconds``: the longest time until the
    model answers, after which such a wait ends by itself.
    """
    # Three attempts to connect (5 s) and read (the poll and 10 s), and the pauses between them.
    queue = 3 * (wait_seconds + 15.0) + 30.0
    # One action is a few calls; a breaker touches between actions, probes and its pauses of 30 s.
    store = 3 * store_timeout_seconds + 30.0 + TURN_SECONDS
    # A wait for room in the model's queue, then a wait for the embeddings.
    embed = 2 * answer_seconds + 15.0
    return {
        "receive": queue,
        "settle": queue,
        "extend": queue,
        "validate": 45.0,
        "look_up": store,
        "fetch_image": image_timeout_seconds + 30.0,
        # It looks embeddings up, and embeds a new name beside a known image.
        "reuse": max(store, embed),
        "prepare": 45.0,
        "embed": embed,
        "score": 60.0,
        "ledger": store,
        "stores": store,
        "validate_order": 45.0,
        "order_ledger": store,
        "redis": store,
        # The sweeper may wait for its next attempt, for a minute at most.
        "sweep": store + 60.0,
        # A crash suspect is embedded alone, while other threads wait for it between stages.
        BETWEEN: max(embed, OTHER_STAGE_SECONDS),
    }
