"""Records of sensors with planted anomalies: what a detector should find is known of each.

The sensors follow a daily wave and a load together, each in its own measure and unit, with noise of
their own and a slow drift. For measurements and for ``make demo-streams``.
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from product_consumer.streams.anomaly.scoring.base import Floats

KINDS = ("spike", "mild", "relation")
"""A spike lies 6 to 12 spreads off and a mild one 4 to 6. ``relation``: a value within its own
range that does not fit the others."""

_NAMES = ("temperature", "pressure", "vibration", "current", "humidity")
_UNITS = ((21.0, 4.0), (1013.0, 12.0), (0.8, 0.15), (14.0, 3.5), (55.0, 9.0))
"""The middle and the spread of each sensor."""
_STEADINESS = 0.9
"""How much of the load remains from one record to the next."""
_LEAST_BREAK = 1.5
"""Spreads between a value that breaks its relation and the one that would fit."""


@dataclass(frozen=True, slots=True)
class PlantedRecord:
    """A record, and what is planted in it."""

    values: dict[str, float]
    kind: str | None
    """One of ``KINDS``; None for a usual record."""
    feature: str | None
    """Where the anomaly is."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How records are made; the same plan gives the same records."""

    seed: int
    records: int = 6000
    features: int = 5
    share: float = 0.015
    """Of records with an anomaly."""
    noise: float = 0.1
    """The part of each spread that has nothing to do with the other sensors."""
    drift: float = 1.0
    """Spreads from the first record to the last."""
    period: int = 288
    """Records of a day."""
    scale: float = 1.0
    """All values are multiplied by it."""
    quiet: int = 0
    """The first records, without anomalies."""


@dataclass(slots=True)
class Tally:
    """How many of the planted anomalies were found, and what else was called one."""

    planted: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    false: int = 0

    def add(self, kind: str | None, is_anomaly: bool) -> None:
        """Count a record: what is planted in it, if anything, and what was said of it."""
        if kind is not None:
            self.planted[kind] += 1
            self.found[kind] += is_anomaly
        else:
            self.false += is_anomaly

    @property
    def precision(self) -> float:
        """The share of planted ones among all that were called anomalies; 1 where none was."""
        called = self.found.total() + self.false
        return self.found.total() / called if called else 1.0

    @property
    def recall(self) -> float:
        """The share of the planted ones that were found; 1 where none is planted."""
        return self.found.total() / self.planted.total() if self.planted.total() else 1.0

    def recall_of(self, kind: str) -> float:
        """The share of the planted ones of a kind that were found."""
        return self.found[kind] / self.planted[kind] if self.planted[kind] else 1.0


def planted_records(plan: Plan) -> Iterator[PlantedRecord]:
    """Yield the records of a plan."""
    random = np.random.default_rng(plan.seed)
    usual = _usual(plan, random)
    names = [_name(column) for column in range(plan.features)]
    for place, row in enumerate(usual):
        values, kind, feature = row.copy(), None, None
        if place >= plan.quiet and random.random() < plan.share:
            kind = str(random.choice(KINDS))
            column = int(random.integers(plan.features))
            values[column] = _anomalous(kind, usual[:, column], place, random)
            feature = names[column]
        shown = (_in_units(value, column, plan.scale) for column, value in enumerate(values))
        yield PlantedRecord(dict(zip(names, shown, strict=True)), kind, feature)


def _usual(plan: Plan, random: np.random.Generator) -> Floats:
    """Return the usual values, in spreads: a row for each record."""
    times = np.arange(plan.records)
    wave = np.sin(2 * math.pi * times / plan.period) * math.sqrt(2)
    load = _load(plan.records, random)
    rows = np.empty((plan.records, plan.features))
    for column in range(plan.features):
        of_wave, of_load = random.uniform(0.5, 1.0, 2) * random.choice((-1, 1))
        # Every other sensor falls with the load: so each can be told from the others.
        of_load *= 1 - 2 * (column % 2)
        together = (of_wave * wave + of_load * load) / math.hypot(of_wave, of_load)
        own = random.normal(size=plan.records)
        rows[:, column] = math.sqrt(1 - plan.noise**2) * together + plan.noise * own
    return rows + plan.drift * (times / max(plan.records, 1))[:, None]


def _load(count: int, random: np.random.Generator) -> Floats:
    steps = random.normal(size=count) * math.sqrt(1 - _STEADINESS**2)
    load = np.empty(count)
    level = float(random.normal())
    for place, step in enumerate(steps.tolist()):
        level = _STEADINESS * level + step
        load[place] = level
    return load


def _anomalous(kind: str, usual: Floats, place: int, random: np.random.Generator) -> float:
    value = float(usual[place])
    if kind == "relation":
        # From about the same time: the drift makes other times another range.
        near = usual[max(0, place - 1000) : place + 1000]
        unfit = near[np.abs(near - value) >= _LEAST_BREAK]
        return float(random.choice(unfit)) if len(unfit) else value + _LEAST_BREAK
    low, high = (6.0, 12.0) if kind == "spike" else (4.0, 6.0)
    return value + float(random.uniform(low, high) * random.choice((-1, 1)))


def _name(column: int) -> str:
    return _NAMES[column] if column < len(_NAMES) else f"sensor_{column + 1}"


def _in_units(value: float, column: int, scale: float) -> float:
    middle, spread = _UNITS[column % len(_UNITS)]
    return float(f"{(middle + spread * value) * scale:.7g}")
