"""What the detector says of one record."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of one record."""

    score: float
    """How far the record is from what is usual, 0 or more."""
    threshold: float
    """The score above which a record is an anomaly; 0 while nothing is known."""
    is_anomaly: bool
    """Never while ``warming_up``."""
    warming_up: bool
    seen: int
    """Records so far, this one included; those before a restart count too."""
    features: Mapping[str, float]
    """What each feature adds to the score."""
