"""Options -> a detector that goes on where an earlier one stopped, and keeps what it learns."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from product_consumer.pipeline.group_commit import GroupCommit
from product_consumer.streams.anomaly.detector import Detector
from product_consumer.streams.anomaly.features import Value
from product_consumer.streams.anomaly.keeper import StateKeeper
from product_consumer.streams.anomaly.options import (
    DEFAULT_DETECTOR,
    DetectorName,
    DetectorOptions,
)
from product_consumer.streams.anomaly.scoring.base import Scorer
from product_consumer.streams.anomaly.state import State, StateUnusable
from product_consumer.streams.anomaly.state_files import StateFiles
from product_consumer.streams.anomaly.verdict import Verdict

log = logging.getLogger(__name__)


class KeptDetector:
    """A detector whose state is in ``anomaly-QUEUE.state`` of a directory. Any thread may call it.

    A record that is delivered again is learnt again, which changes next to nothing.
    """

    def __init__(
        self, directory: Path, queue: str, options: DetectorOptions = DEFAULT_DETECTOR
    ) -> None:
        self._queue = queue
        self._options = options
        self._chosen = tuple(sorted(set(options.chosen)))
        self._detector = self._fresh()
        self._grouped = GroupCommit("detector", self._judge)
        self._is_cold = True
        self._files = StateFiles(directory, queue)
        self._keeper = StateKeeper(self._files, self._state)

    def open(self) -> None:
        """Go on from the newest state. A file that cannot be used, or written, is only told."""
        try:
            self._files.open()
        except OSError as error:
            log.warning("What the detector learns is not kept: %s", error.strerror or error)
        self._files.read(self._take)
        self._keeper.start()

    def judge(self, records: Sequence[Mapping[str, Value]]) -> list[Verdict]:
        """Return the verdict on each record, in order, and learn from them.

        The calls of several threads become one: a call costs as much as some ten records.
        """
        return list(self._grouped(records))

    def _judge(self, records: Sequence[Mapping[str, Value]]) -> list[Verdict]:
        verdicts = self._detector.judge(records)
        self._keeper.note(len(verdicts))
        if self._is_cold and verdicts and not verdicts[-1].warming_up:
            # A crash soon after it must not cost the warm-up.
            self._is_cold = False
            self._keeper.save_soon()
        return verdicts

    def close(self) -> None:
        """Write the state, and give the file to the next process."""
        self._keeper.close()
        self._files.close()

    def _take(self, state: State) -> None:
        if state.detector != self._options.name:
            raise StateUnusable("another detector learnt it")
        if state.chosen != self._chosen:
            raise StateUnusable("it was learnt from other --features")
        # What does not fit may be found half-way; the detector must be a fresh one then.
        restored = self._fresh()
        restored.restore(state.names, state.seen, state.warming_up, state.arrays)
        self._detector, self._is_cold = restored, state.warming_up

    def _fresh(self) -> Detector:
        scorer = _scorer(self._options)
        return Detector(scorer, chosen=self._chosen, relearn=self._options.relearn)

    def _state(self) -> State:
        names, seen, warming_up, arrays = self._detector.learnt()
        return State(
            queue=self._queue,
            detector=self._options.name,
            chosen=self._chosen,
            names=tuple(names),
            seen=seen,
            warming_up=warming_up,
            arrays=arrays,
        )


def _scorer(options: DetectorOptions) -> Scorer:
    given = () if options.factor is None else (options.factor,)
    # Loaded when needed: river's LODA brings scipy.stats, which takes seconds.
    if options.name is DetectorName.DISTRIBUTION:
        from product_consumer.streams.anomaly.scoring.distribution import DistributionScorer

        return DistributionScorer(*given)
    from product_consumer.streams.anomaly.scoring.relation import RelationScorer

    return RelationScorer(*given)
