"""The counts of a process as a scrape sees them."""

from collections import Counter

from prometheus_client.parser import text_string_to_metric_families

from product_consumer.metrics import Metrics

Samples = dict[tuple[str, tuple[str, ...]], float]


def samples(metrics: Metrics) -> Samples:
    """Every sample of the registry, by name and label values."""
    text = metrics.exposition("")[0].decode()
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def received(metrics: Metrics) -> int:
    """Messages received so far."""
    return int(samples(metrics)["product_messages_received_total", ()])


def outcomes(metrics: Metrics) -> Counter[tuple[str, ...]]:
    """Messages settled so far, by (outcome, reason)."""
    return Counter(
        {
            labels: int(value)
            for (name, labels), value in samples(metrics).items()
            if name == "product_messages_settled_total"
        }
    )


def finished(metrics: Metrics) -> int:
    """Messages that reached a final outcome: stored, rejected or ignored."""
    final = {"stored", "rejected", "ignored"}
    return sum(count for (outcome, _), count in outcomes(metrics).items() if outcome in final)


def timed_stages(metrics: Metrics) -> set[str]:
    """Names of the stages in which a batch has been."""
    return {
        stage
        for name, labels in samples(metrics)
        if name == "product_stage_seconds_sum"
        for stage in labels
    }
