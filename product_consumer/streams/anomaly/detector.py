"""Scores records, decides which are anomalies, and learns from the others. No labels are needed."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from threading import Lock

import numpy as np

from product_consumer.streams.anomaly.features import Features, Value
from product_consumer.streams.anomaly.options import DEFAULT_RELEARN
from product_consumer.streams.anomaly.scores import LatestScores
from product_consumer.streams.anomaly.scoring.base import Floats, Scorer
from product_consumer.streams.anomaly.state import StateUnusable
from product_consumer.streams.anomaly.verdict import Verdict

WARM_UP_RECORDS = 300
"""The first records, of which none is called an anomaly."""
LEARN_RECORDS = 50
"""Records that are learnt at a time."""
FIRST_LOOKS = (50, 100, 200, WARM_UP_RECORDS)
"""After so many records of the warm-up, what is usual is learnt from all of them."""
_COUNTED_OF_A_ROW = 50
_KEPT_OF_A_ROW = 1000

Learnt = tuple[list[str], int, bool, dict[str, Floats]]
"""Names of features, records seen, whether it warms up, arrays."""


class Detector:
    """The detector of one stream. Any thread may call it.

    Anomalies are not learnt. After ``relearn`` of them in a row the level of the stream has
    shifted: everything before is forgotten, and these are learnt. The scores of a long row change
    the threshold little, so that a fault of a sensor does not hide the next one.
    """

    def __init__(
        self, scorer: Scorer, *, chosen: Iterable[str] = (), relearn: int = DEFAULT_RELEARN
    ) -> None:
        """``chosen``: the names of the features; none means all numbers."""
        self._scorer = scorer
        self._chosen = tuple(chosen)
        self._features = Features(self._chosen)
        self._relearn = relearn
        self._latest = LatestScores(scorer.factor, scorer.least)
        self._lock = Lock()
        self._seen = 0
        self._warm_up: list[Floats] = []
        self._warming_up = True
        self._waiting: list[Floats] = []
        self._row: deque[Floats] = deque(maxlen=_KEPT_OF_A_ROW)
        self._row_length = 0

    def judge(self, records: Sequence[Mapping[str, Value]]) -> list[Verdict]:
        """Return the verdict on each record, in order, and learn from them."""
        with self._lock:
            rows = self._features.rows(records)
            names = self._features.names
            verdicts: list[Verdict] = []
            while len(verdicts) < len(rows):
                verdicts += self._judge_some(rows[len(verdicts) :], names)
            return verdicts

    def learnt(self) -> Learnt:
        """Return all that is needed to go on: names of features, records seen, arrays."""
        with self._lock:
            arrays = {f"scorer_{name}": array for name, array in self._scorer.arrays().items()}
            arrays["scores"] = np.array(self._latest.scores)
            arrays["warm_up"] = self._as_rows(self._warm_up)
            arrays["waiting"] = self._as_rows(self._waiting)
            return self._features.names, self._seen, self._warming_up, arrays

    def restore(
        self, names: Sequence[str], seen: int, warming_up: bool, arrays: Mapping[str, Floats]
    ) -> None:
        """Go on from what ``learnt`` returned; for a new detector, before its first record.

        Raises ``StateUnusable`` where the parts do not fit each other.
        """
        of_scorer = {
            name.removeprefix("scorer_"): array
            for name, array in arrays.items()
            if name.startswith("scorer_")
        }
        try:
            scores, warm_up, waiting = arrays["scores"], arrays["warm_up"], arrays["waiting"]
            if scores.ndim != 1 or np.isnan(scores).any():
                raise ValueError("no scores")
            for rows in (warm_up, waiting):
                if rows.ndim != 2 or rows.shape[1] != len(names) or len(rows) > WARM_UP_RECORDS:
                    raise ValueError("no rows")
            self._scorer.restore(of_scorer, len(names))
        except (ValueError, KeyError, IndexError, np.linalg.LinAlgError) as error:
            raise StateUnusable("its parts do not fit each other") from error
        self._features = Features(self._chosen, names)
        self._seen, self._warming_up = seen, warming_up
        self._latest = LatestScores(self._scorer.factor, self._scorer.least, scores.tolist())
        self._warm_up, self._waiting = list(warm_up), list(waiting)

    def _judge_some(self, rows: Floats, names: list[str]) -> list[Verdict]:
        """Judge the first rows, up to one that changes what the others are judged by."""
        if self._warming_up:
            return [self._warm_up_with(rows[0], names)]
        scores, shares = self._scorer.score(rows)
        verdicts = []
        for row, score, of_each in zip(rows, scores.tolist(), shares, strict=True):
            self._seen += 1
            threshold = self._latest.threshold()
            is_anomaly = score > threshold
            verdicts.append(self._verdict(score, threshold, is_anomaly, of_each, names))
            if is_anomaly:
                self._add_to_row(row, score)
                if self._row_length >= self._relearn:
                    self._start(self._as_rows(self._row))
                    break
            else:
                self._row.clear()
                self._row_length = 0
                self._latest.add(score)
                self._waiting.append(row)
        if len(self._waiting) >= LEARN_RECORDS:
            self._learn()
        return verdicts

    def _warm_up_with(self, row: Floats, names: list[str]) -> Verdict:
        score, threshold, of_each = 0.0, self._latest.threshold(), np.zeros(len(names))
        if threshold:
            scores, shares = self._scorer.score(row[None, :])
            score, of_each = float(scores[0]), shares[0]
        self._seen += 1
        self._warm_up.append(row)
        if len(self._warm_up) in FIRST_LOOKS:
            self._start(self._as_rows(self._warm_up))
        verdict = self._verdict(score, threshold, False, of_each, names)
        if len(self._warm_up) >= WARM_UP_RECORDS:
            self._warming_up = False
            self._warm_up.clear()
        return verdict

    def _verdict(
        self, score: float, threshold: float, is_anomaly: bool, of_each: Floats, names: list[str]
    ) -> Verdict:
        features = {
            name: round(share, 4)
            for name, share in zip(names, of_each.tolist(), strict=False)
            if share
        }
        return Verdict(score, threshold, is_anomaly, self._warming_up, self._seen, features)

    def _add_to_row(self, row: Floats, score: float) -> None:
        self._row.append(row)
        self._row_length += 1
        if self._row_length <= _COUNTED_OF_A_ROW:
            self._latest.add(score)

    def _learn(self) -> None:
        if self._waiting:
            self._scorer.learn(self._as_rows(self._waiting))
            self._waiting.clear()

    def _start(self, rows: Floats) -> None:
        """Forget everything and learn from these rows."""
        scores = self._scorer.start(rows)
        self._latest = LatestScores(self._scorer.factor, self._scorer.least, scores.tolist())
        self._waiting.clear()
        self._row.clear()
        self._row_length = 0

    def _as_rows(self, rows: Iterable[Floats]) -> Floats:
        """Return rows as an array; the earlier ones may be shorter."""
        found = list(rows)
        array = np.full((len(found), len(self._features.names)), np.nan)
        for place, row in enumerate(found):
            array[place, : len(row)] = row
        return array
