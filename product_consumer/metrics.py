"""Counters and timings of a worker, kept by prometheus-client in a registry of its own."""

import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from time import monotonic

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from product_consumer.models import Message
from product_consumer.outcomes import Ignored, Outcome, Rejected, Released, RetryLater, Stored

log = logging.getLogger(__name__)

MAX_LABEL_VALUES = 200
"""Distinct reasons, and distinct flags, of one process; later ones are counted as ``other``. Our
code gives far fewer."""

PENDING_CHECKS_CACHE_SECONDS = 15.0
"""How long a count of pending checks, or its failure, stands for the next scrapes."""

_STAGE_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
_AGE_BUCKETS = (0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600, 21_600, 86_400)
_RECEIVE_BUCKETS = (0, 1, 2, 3, 5, 7, 10)
_PASS_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_LABEL = re.compile(r"[A-Za-z0-9_:.-]{1,80}")


class Metrics:
    """Counters of one process; every method may be called from any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._reasons, self._flag_names = _Labels(), _Labels()
        self._live = _LiveValues()
        self.registry.register(self._live)
        ProcessCollector(registry=self.registry)
        self._received = self._counter("product_messages_received", "Messages received.")
        self._settled = self._counter(
            "product_messages_settled",
            "Messages settled, by outcome and reason.",
            ("outcome", "reason"),
        )
        self._dead_letters = self._counter(
            "product_dead_letters", "Rejected messages whose copy is kept, by reason.", ("reason",)
        )
        self._flags = self._counter(
            "product_message_flags", "Oddities in accepted messages.", ("flag",)
        )
        self._quality = self._counter(
            "product_quality_checks", "Quality checks, by what became of them.", ("result",)
        )
        self._alerts = self._counter(
            "product_alerts", "Alerts of anomalies, by what became of them.", ("result",)
        )
        self._thread_deaths = self._counter(
            "product_thread_deaths", "Threads that ended by an error of ours."
        )
        self._stage_seconds = self._histogram(
            "product_stage_seconds", "Time a batch spent in a stage.", _STAGE_BUCKETS, ("stage",)
        )
        self._age_seconds = self._histogram(
            "product_message_age_seconds", "From sent to stored.", _AGE_BUCKETS
        )
        self._newest_age_seconds = Gauge(
            "product_newest_message_age_seconds",
            "From sent to stored, of the message that was stored last.",
            registry=self.registry,
        )
        self._receive_batch = self._histogram(
            "product_receive_batch_messages", "Messages per receive.", _RECEIVE_BUCKETS
        )
        self._forward_pass = self._histogram(
            "product_forward_pass_items", "Items per forward pass of the model.", _PASS_BUCKETS
        )

    def count_received(self, count: int) -> None:
        """Count the messages of one receive."""
        self._received.inc(count)
        self._receive_batch.observe(count)

    def count_outcome(self, outcome: Outcome, message: Message | None = None) -> None:
        """Count a settled message; its age too, where it was stored."""
        name = type(outcome).__name__.lower()
        reason = ""
        if isinstance(outcome, Rejected | RetryLater | Ignored):
            reason = self._reasons.bounded(outcome.reason)
        elif isinstance(outcome, Released):
            reason = "released"
        self._settled.labels(name, reason).inc()
        if message is not None and isinstance(outcome, Stored):
            self._observe_age((datetime.now(UTC) - message.sent_at).total_seconds())

    def count_dead_letter(self, reason: str) -> None:
        """Count a rejected message whose reasoned copy was confirmed."""
        self._dead_letters.labels(self._reasons.bounded(reason)).inc()

    def count_flags(self, flags: tuple[str, ...]) -> None:
        for flag in flags:
            self._flags.labels(self._flag_names.bounded(flag)).inc()

    def count_quality(self, result: str, number: int = 1) -> None:
        """Count quality checks; ``result`` as ``QualityChecker`` names it."""
        self._quality.labels(self._flag_names.bounded(result)).inc(number)

    def count_alert(self, result: str, number: int = 1) -> None:
        """Count alerts; ``result``: ``sent``, ``failed`` or ``dropped``."""
        self._alerts.labels(self._flag_names.bounded(result)).inc(number)

    def count_thread_death(self) -> None:
        self._thread_deaths.inc()

    def observe_forward_pass(self, count: int) -> None:
        """Record how many items one forward pass took."""
        self._forward_pass.observe(count)

    def observe_stage(self, name: str, seconds: float) -> None:
        """Time one batch's stay in a stage."""
        self._stage_seconds.labels(name).observe(seconds)

    def watch_breakers(self, states: Callable[[], Mapping[str, bool]]) -> None:
        """Report at every scrape which dependencies are down: True for an open breaker."""
        self._live.breakers.append(states)

    def watch_in_flight(self, count: Callable[[], int]) -> None:
        """Report at every scrape how many messages are received and not settled yet."""
        self._live.in_flight.append(count)

    def watch_pending_checks(self, count: Callable[[], int]) -> None:
        """Report at a scrape how many written products wait for their check.

        Called at most every ``PENDING_CHECKS_CACHE_SECONDS``; left out while it raises.
        """
        self._live.pending_checks = _Cached(count, PENDING_CHECKS_CACHE_SECONDS)

    def down_dependencies(self) -> list[str]:
        """Names of the dependencies that are down now."""
        return sorted(name for name, is_open in self._live.breaker_states().items() if is_open)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return everything in the format that an ``Accept`` header asks for, and its type."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def _observe_age(self, seconds: float) -> None:
        # The queue's clock may be ahead of ours.
        age_seconds = max(0.0, seconds)
        self._age_seconds.observe(age_seconds)
        self._newest_age_seconds.set(age_seconds)

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], labels: tuple[str, ...] = ()
    ) -> Histogram:
        return Histogram(name, text, labels, buckets=buckets, registry=self.registry)


class _Labels:
    """Keeps label values few and plain: each one costs memory here and in every Prometheus."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def bounded(self, value: str) -> str:
        if value in self._known:
            return value
        if len(self._known) >= MAX_LABEL_VALUES or not _LABEL.fullmatch(value):
            return "other"
        self._known.add(value)
        return value


class _Cached:
    """A count that is asked for at most every ``seconds``; None while asking fails."""

    def __init__(self, count: Callable[[], int], seconds: float) -> None:
        self._count = count
        self._seconds = seconds
        self._lock = threading.Lock()
        self._value: int | None = None
        self._asked_at: float | None = None

    def get(self) -> int | None:
        # A caller that comes while another thread asks gets the last value.
        if self._lock.acquire(blocking=False):
            try:
                if self._asked_at is None or monotonic() - self._asked_at >= self._seconds:
                    self._value = self._ask()
                    self._asked_at = monotonic()
            finally:
                self._lock.release()
        return self._value

    def _ask(self) -> int | None:
        try:
            return self._count()
        # No failure of a dependency may cost the other metrics their scrape.
        except Exception as error:
            log.debug("Cannot count the pending checks: %s", error)
            return None


class _LiveValues(Collector):
    """Values that are read at every scrape."""

    def __init__(self) -> None:
        self.breakers: list[Callable[[], Mapping[str, bool]]] = []
        self.in_flight: list[Callable[[], int]] = []
        self.pending_checks: _Cached | None = None

    def breaker_states(self) -> dict[str, bool]:
        states: dict[str, bool] = {}
        for read in self.breakers:
            for dependency, is_open in read().items():
                states[dependency] = states.get(dependency, False) or is_open
        return states

    def collect(self) -> Iterator[Metric]:
        opened = GaugeMetricFamily(
            "product_breaker_open", "1 while the dependency is down.", labels=("part",)
        )
        for dependency, is_open in self.breaker_states().items():
            opened.add_metric((dependency,), float(is_open))
        yield opened
        yield GaugeMetricFamily(
            "product_messages_in_flight",
            "Messages received and not settled yet.",
            value=sum(count() for count in self.in_flight),
        )
        pending_checks = None if self.pending_checks is None else self.pending_checks.get()
        if pending_checks is not None:
            yield GaugeMetricFamily(
                "product_marks_waiting",
                "Products whose last write waits to be checked.",
                value=pending_checks,
            )
