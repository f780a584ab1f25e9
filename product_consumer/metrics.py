"""What the worker counts and times, kept by prometheus-client in a registry of its own."""

from collections import Counter as Tally
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Histogram

from product_consumer.models import Ignored, Outcome, Rejected, Released, RetryLater

_STAGE_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


class Metrics:
    """Counters of one process; every method may be called from any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._received = Counter(
            "product_messages_received", "Messages received.", registry=self.registry
        )
        self._settled = Counter(
            "product_messages_settled",
            "Messages settled, by outcome and reason.",
            ("outcome", "reason"),
            registry=self.registry,
        )
        self._flags = Counter(
            "product_message_flags",
            "Oddities in accepted messages.",
            ("flag",),
            registry=self.registry,
        )
        self._stage_seconds = Histogram(
            "product_stage_seconds",
            "Time a batch spent in a stage.",
            ("stage",),
            buckets=_STAGE_BUCKETS,
            registry=self.registry,
        )

    def count_received(self, count: int) -> None:
        self._received.inc(count)

    def count_outcome(self, outcome: Outcome) -> None:
        name = type(outcome).__name__.lower()
        reason = ""
        if isinstance(outcome, Rejected | RetryLater | Ignored):
            reason = outcome.reason
        elif isinstance(outcome, Released):
            reason = "released"
        self._settled.labels(name, reason).inc()

    def count_flags(self, flags: tuple[str, ...]) -> None:
        for flag in flags:
            self._flags.labels(flag).inc()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block as one batch's stay in the stage ``name``."""
        started = perf_counter()
        try:
            yield
        finally:
            self._stage_seconds.labels(name).observe(perf_counter() - started)

    def received(self) -> int:
        """Messages received so far."""
        return int(self._total("product_messages_received_total"))

    def outcomes(self) -> Tally[tuple[str, str]]:
        """Messages settled so far, by (outcome, reason)."""
        tally: Tally[tuple[str, str]] = Tally()
        for sample in self._samples("product_messages_settled_total"):
            tally[sample[0]["outcome"], sample[0]["reason"]] += int(sample[1])
        return tally

    def finished(self) -> int:
        """Messages that reached a final outcome: stored, rejected or ignored."""
        final = {"stored", "rejected", "ignored"}
        return sum(count for (outcome, _), count in self.outcomes().items() if outcome in final)

    def stage_seconds(self) -> dict[str, float]:
        """Seconds spent so far per stage, added up over all threads, in order of first use."""
        return {
            labels["stage"]: value for labels, value in self._samples("product_stage_seconds_sum")
        }

    def _total(self, name: str) -> float:
        return sum(value for _, value in self._samples(name))

    def _samples(self, name: str) -> list[tuple[dict[str, str], float]]:
        return [
            (sample.labels, sample.value)
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == name
        ]
