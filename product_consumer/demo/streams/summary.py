"""What the demo prints of its results."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from product_consumer.demo.streams.material import Sent
from product_consumer.streams.anomaly.planted import KINDS as PLANTED_KINDS
from product_consumer.streams.anomaly.planted import Tally
from product_consumer.streams.results import REJECTED, StageResult

_EXAMPLES = 5


def picture_lines(requests: Sequence[Sent], rows: Mapping[str, StageResult]) -> Iterator[str]:
    """Yield lines on the pictures: examples, how many labels are right, what was rejected."""
    drawn = [request for request in requests if request.kind is not None]
    found = {request.correlation_id: _value(rows, request) for request in drawn}
    right = sum(found[request.correlation_id].get("label") == request.kind for request in drawn)
    yield f"Pictures: {len(drawn)} classified, {right} with the label that was drawn"
    for request in drawn[:_EXAMPLES]:
        value = found[request.correlation_id]
        answer = f"{value.get('label')} ({value.get('score', 0):.2f})"
        yield f"  {request.correlation_id:<12} {request.kind:<12} -> {answer}"
    for request in requests:
        row = rows.get(request.correlation_id)
        if row is not None and row.status == REJECTED:
            yield f"  {request.correlation_id:<12} rejected by {row.stage}: {row.reason}"


def anomaly_lines(tally: Tally, seconds: float, count: int) -> Iterator[str]:
    """Yield lines on the records: how many anomalies were planted and found."""
    planted, found = tally.planted.total(), tally.found.total()
    yield f"Records: {count} in {seconds:.1f} s, {planted} with a planted anomaly, {found} found"
    yield f"  precision {tally.precision:.3f}, recall {tally.recall:.3f}"
    for kind in PLANTED_KINDS:
        yield f"  {kind:<10} {tally.found[kind]} of {tally.planted[kind]}"


def example_line(value: Mapping[str, Any]) -> str:
    """Return one result as it stands in the queue, shortened."""
    text = json.dumps(value)
    return text if len(text) <= 300 else text[:297] + "..."


def _value(rows: Mapping[str, StageResult], request: Sent) -> dict[str, Any]:
    row = rows.get(request.correlation_id)
    value = None if row is None else row.value()
    return value if isinstance(value, dict) else {}
