"""The worker under test: ``thread_runner.py`` with a fake embedder, and with all calls recorded.

Queue, ledger, stores, fetcher, decoder, threads and signals are the real ones. Reads
``HARNESS_HISTORY`` (a file), ``HARNESS_BUG`` and ``HARNESS_FAULT``, which ``faults.py`` explains.
"""

import os
import sys
from pathlib import Path
from typing import Any

from tests.faults.harness import fake_embedder

# Before anything imports it: the real one loads torch.
sys.modules["product_consumer.embedding.embedder"] = fake_embedder

import thread_runner  # noqa: E402
from product_consumer.pipeline import batch  # noqa: E402
from product_consumer.products import components  # noqa: E402
from product_consumer.queue_addresses import StreamName  # noqa: E402
from product_consumer.queues import in_flight  # noqa: E402
from product_consumer.runtime import supervisor  # noqa: E402
from product_consumer.settings import Settings  # noqa: E402
from product_consumer.stores.opening import Stores  # noqa: E402
from tests.faults.harness import faults, steps  # noqa: E402
from tests.faults.harness.order_faults import wrap_order_components  # noqa: E402
from tests.faults.harness.recording import (  # noqa: E402
    History,
    RecordedLedger,
    RecordedQueue,
    RecordedStore,
    record_outages,
)


def main() -> int:
    path = Path(os.environ["HARNESS_HISTORY"])
    history = History(path)
    bug = os.environ.get("HARNESS_BUG", "")
    fault = faults.Fault(os.environ.get("HARNESS_FAULT", ""), history)
    _wrap_components(history, fault, bug)
    steps.plant(fault)
    record_outages(history)
    wrap_order_components(path, fault, bug)
    if bug == "swallow_unknown":
        batches: Any = batch
        batches.outcome_of = faults.swallowing(batches.outcome_of)
    if bug == "heartbeat_off_on_drain":
        _stop_heartbeats_on_drain()
    if bug == "read_closes_breaker":
        faults.close_on_reads()
    history.add("start", bug=bug)
    code = thread_runner.main()
    history.add("exit", code=code)
    return code


def _wrap_components(history: History, fault: faults.Fault, bug: str) -> None:
    of: Any = components
    open_queue, open_ledger, open_stores = of.open_queue, of.open_ledger, of.open_stores

    def queue(settings: Settings, stream: StreamName) -> Any:
        history.add("opening")
        recorded = RecordedQueue(open_queue(settings, stream), history)
        return faults.FaultyQueue(recorded, fault, bug)

    def ledger(settings: Settings, *database: Any) -> Any:
        recorded = RecordedLedger(open_ledger(settings, *database), history)
        return faults.FaultyLedger(recorded, fault, bug, settings.ledger_url)

    def stores(settings: Settings) -> Any:
        opened = open_stores(settings)
        vectors, keywords = (
            faults.FaultyStore(RecordedStore(store, history), fault) for store in opened.all
        )
        return Stores(vectors=vectors, keywords=keywords)

    vars(components).update(open_queue=queue, open_ledger=ledger, open_stores=stores)


def _stop_heartbeats_on_drain() -> None:
    run = supervisor.Supervisor._drain

    def drain(self: Any, threads: Any) -> None:
        in_flight.InFlightTracker.extend_due = _do_nothing  # type: ignore[assignment, method-assign]
        run(self, threads)

    supervisor.Supervisor._drain = drain  # type: ignore[method-assign]


def _do_nothing(_tracker: in_flight.InFlightTracker) -> None:
    return None


if __name__ == "__main__":
    sys.exit(main())
