"""Detectors on planted records: what they find of what is there."""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice

from product_consumer.streams.anomaly.planted import PlantedRecord, Tally
from product_consumer.streams.anomaly.verdict import Verdict

Judge = Callable[[Sequence[Mapping[str, object]]], list[Verdict]]


def tally_of(judge: Judge, records: Sequence[PlantedRecord], batch_size: int = 10) -> Tally:
    """Return what a detector finds of records after their warm-up, given in batches."""
    tally, rest = Tally(), iter(records)
    while batch := list(islice(rest, batch_size)):
        verdicts = judge([record.values for record in batch])
        for record, verdict in zip(batch, verdicts, strict=True):
            if not verdict.warming_up:
                tally.add(record.kind, verdict.is_anomaly)
    return tally
