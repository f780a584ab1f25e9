"""One alert, and the contract of the places that alerts go to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Alert:
    """An anomaly, as it is told."""

    correlation_id: str
    score: float
    threshold: float
    features: Mapping[str, float]
    """What each feature adds to the score."""
    body: str = field(repr=False)
    """The result, JSON text."""


class AlertSink(Protocol):
    """A place that alerts go to. Any thread may call ``put``."""

    def start(self) -> None:
        """Begin; call once."""
        ...

    def put(self, alert: Alert) -> None:
        """Take an alert and return at once; never raises."""
        ...

    def close(self) -> None:
        """Finish what was taken, for some seconds at most."""
        ...
