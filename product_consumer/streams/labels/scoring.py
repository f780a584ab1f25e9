"""An embedding -> the score of each label: softmax of the model's own scale times the cosine."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from product_consumer.errors import RejectMessage

MAX_SCORES = 1000
"""Most labels of one result, the best first."""
_DECIMALS = 6


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one embedding."""

    best: Sequence[tuple[str, float]]
    """Labels with their scores, the best first; the scores of all labels add up to 1."""
    label: str | None
    """The best label; None where its score is below the least that counts."""

    @property
    def score(self) -> float:
        """The best score."""
        return self.best[0][1]


class LabelScorer:
    """Scores embeddings of one model by a list of labels. Thread-safe.

    ``embeddings``: of the labels, unit vectors, shape (labels, dimension). ``min_score``: below it
    the best label is none.
    """

    def __init__(
        self,
        labels: Sequence[str],
        embeddings: NDArray[np.float32],
        *,
        model_id: str,
        logit_scale: float,
        min_score: float = 0.0,
    ) -> None:
        self.model_id = model_id
        self._labels = labels
        self._embeddings = embeddings.astype(np.float64)
        self._logit_scale = logit_scale
        self._min_score = min_score

    def check(self, vector: NDArray[np.float32], model_id: str | None) -> None:
        """Raise ``RejectMessage`` (``model_mismatch``) for an embedding of another model.

        ``model_id``: None where it is not known.
        """
        dimension = self._embeddings.shape[1]
        if len(vector) != dimension:
            detail = f"{len(vector)} numbers where the model has {dimension}"
            raise RejectMessage("model_mismatch", detail)
        if model_id not in (None, self.model_id):
            raise RejectMessage("model_mismatch", "the features are of another model")

    def scores(self, vector: NDArray[np.float32]) -> Scores:
        """Return the scores of an embedding, a unit vector."""
        logits = self._logit_scale * (self._embeddings @ vector.astype(np.float64))
        powers = np.exp(logits - logits.max())
        shares = powers / powers.sum()
        order = np.argsort(-shares, kind="stable")[:MAX_SCORES]
        best = [(self._labels[place], round(float(shares[place]), _DECIMALS)) for place in order]
        label, score = best[0]
        return Scores(best, label if score >= self._min_score else None)
