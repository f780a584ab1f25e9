"""What the detectors find of planted anomalies and of river's Shuttle, and how fast.

    python -m benchmarks.anomalies [--seeds N ...] [--records N] [--share S] [--noise S]
                                   [--features N] [--drift S] [--period N] [--shuttle N]
                                   [--detectors NAME ...]

Per seed: records of sensors (``product_consumer.streams.anomaly.planted``), JSON in and JSON out,
in batches of ten as a stage takes them. Half-way the detector is closed, and another goes on from
its file, as after a restart. After the warm-up of 300 records, precision is the share of planted
anomalies among all that was called one; recall is the share of the planted ones that was found,
in all and per kind. Then the first records of ``river.datasets.Shuttle``, which has labels of its
own. Records/s are those of one core: per second of processor time. With the defaults it takes a
minute or two.

``--noise``: the part of a spread that a sensor does not share with the others. A value that breaks
its relation cannot be told from noise once the noise is as large.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from river import datasets

from benchmarks.support.program import run
from product_consumer.models import NO_ENVELOPE
from product_consumer.streams.anomaly.opening import KeptDetector
from product_consumer.streams.anomaly.options import DetectorName, DetectorOptions
from product_consumer.streams.anomaly.planted import KINDS, Plan, Tally, planted_records
from product_consumer.streams.records import read_record

BATCH_SIZE = 10
QUEUE = "sensors"

Labelled = tuple[bytes, str | None]
"""A record in JSON, and what is odd in it, if anything."""


@dataclass
class Measurement:
    """What one detector found, and the time that it took."""

    tally: Tally = field(default_factory=Tally)
    records: int = 0
    seconds: float = 0.0

    def line(self, name: str, kinds: Sequence[str]) -> str:
        """Return a row of the table."""
        tally = self.tally
        shares = [tally.precision, tally.recall, *map(tally.recall_of, kinds)]
        numbers = "".join(f"{share:>11.3f}" for share in shares).ljust(11 * (2 + len(KINDS)))
        return f"{name:<26}{numbers}{self.records / self.seconds:>12,.0f}"


def measure(measurement: Measurement, detector: KeptDetector, records: Iterable[Labelled]) -> None:
    """Let a detector judge records as the stage does: text in, text out."""
    rest = iter(records)
    while batch := list(islice(rest, BATCH_SIZE)):
        started = time.process_time()
        read = [read_record(body, NO_ENVELOPE) for body, _ in batch]
        verdicts = detector.judge(read)
        for record, verdict in zip(read, verdicts, strict=True):
            json.dumps({"score": verdict.score, "features": verdict.features, "record": record})
        measurement.seconds += time.process_time() - started
        measurement.records += len(batch)
        for (_, kind), verdict in zip(batch, verdicts, strict=True):
            if not verdict.warming_up:
                measurement.tally.add(kind, verdict.is_anomaly)


def over_a_restart(records: Sequence[Labelled], options: DetectorOptions) -> Measurement:
    """Measure a detector that is closed half-way, and another that goes on from its file."""
    measurement, half = Measurement(), len(records) // 2
    with tempfile.TemporaryDirectory() as directory:
        for part in (records[:half], records[half:]):
            detector = KeptDetector(Path(directory), QUEUE, options)
            detector.open()
            measure(measurement, detector, part)
            detector.close()
    return measurement


def planted(plan: Plan) -> list[Labelled]:
    return [(json.dumps(record.values).encode(), record.kind) for record in planted_records(plan)]


def shuttle(count: int) -> list[Labelled]:
    rows = islice(datasets.Shuttle(), count)
    return [(json.dumps(row).encode(), "shuttle" if is_odd else None) for row, is_odd in rows]


def rows(options: argparse.Namespace) -> Iterator[str]:
    heads = ["precision", "recall", *KINDS]
    yield f"{'':<26}" + "".join(f"{head:>11}" for head in heads) + f"{'records/s':>12}"
    for name in options.detectors:
        for seed in options.seeds:
            plan = Plan(
                seed,
                options.records,
                options.features,
                options.share,
                options.noise,
                options.drift,
                options.period,
            )
            measurement = over_a_restart(planted(plan), DetectorOptions(name))
            yield measurement.line(f"{name}, seed {seed}", KINDS)
        if options.shuttle:
            measurement = over_a_restart(shuttle(options.shuttle), DetectorOptions(name))
            yield measurement.line(f"{name}, Shuttle", ())


def main() -> None:
    plan = Plan(0)
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--records", type=int, default=plan.records)
    parser.add_argument("--share", type=float, default=plan.share)
    parser.add_argument("--noise", type=float, default=plan.noise)
    parser.add_argument("--features", type=int, default=plan.features)
    parser.add_argument("--drift", type=float, default=plan.drift)
    parser.add_argument("--period", type=int, default=plan.period)
    parser.add_argument("--shuttle", type=int, default=15_000, help="records; 0 leaves it out")
    parser.add_argument(
        "--detectors",
        type=DetectorName,
        nargs="+",
        default=list(DetectorName),
        choices=list(DetectorName),
    )
    for row in rows(parser.parse_args()):
        print(row, flush=True)


if __name__ == "__main__":
    run(main)
