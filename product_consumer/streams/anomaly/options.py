"""The options of a detector."""

from dataclasses import dataclass
from enum import StrEnum

DEFAULT_RELEARN = 200
LEAST_RELEARN = 50
"""Fewer records show no relations."""
MOST_RELEARN = 1_000_000


class DetectorName(StrEnum):
    """What a detector scores with."""

    RELATION = "relation"
    DISTRIBUTION = "distribution"


@dataclass(frozen=True, slots=True)
class DetectorOptions:
    """How records are judged."""

    name: DetectorName = DetectorName.RELATION
    chosen: tuple[str, ...] = ()
    """The columns that are features; none means all numbers."""
    relearn: int = DEFAULT_RELEARN
    """Anomalies in a row after which they are what is usual."""
    factor: float | None = None
    """Quartile ranges between the upper quartile of the scores and the threshold; None means what
    suits the detector.
    """


DEFAULT_DETECTOR = DetectorOptions()
