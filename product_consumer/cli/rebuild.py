"""The command ``rebuild``: one store, the ledger, a progress bar; no queue and no model."""

import sys
from collections.abc import Callable
from typing import TypeVar

from tqdm import tqdm

from product_consumer.cli.components import opened_components
from product_consumer.ledger.pending_checks import PendingChecks
from product_consumer.ledger.scan import LedgerScan
from product_consumer.pipeline.circuit_breaker import Breakers
from product_consumer.pipeline.context import new_context
from product_consumer.pipeline.hold import Hold
from product_consumer.products.shared_stores import store_probe
from product_consumer.runtime.signals import Shutdown
from product_consumer.settings import Settings
from product_consumer.stores.base import ProductStore
from product_consumer.sync.rebuild import Rebuild, RebuildResult
from product_consumer.text import printable

T = TypeVar("T")

OUTAGE_SECONDS = 60.0
"""How long each call waits for a dependency that is down, before the command gives up."""


def rebuild_store(settings: Settings, *, keywords: bool, from_start: bool) -> bool:
    """Rebuild the keyword store or the vector store; return whether it now has everything.

    A first signal stops it after the current page. Raises ``ConfigurationError`` or
    ``Unavailable``.
    """
    with Shutdown() as shutdown, opened_components(settings) as components:
        ledger, stores = components.ledger, components.build_stores()
        store: ProductStore = stores.keywords if keywords else stores.vectors
        store.setup(ledger.identity())
        shutdown.consuming = True
        probes = {"ledger": ledger.probe, store.name: store_probe(ledger, store)}
        context = new_context(shutdown.stopping, Hold(OUTAGE_SECONDS))
        breakers = Breakers(probes, context)

        def call(dependency: str, operation: str, action: Callable[[], T]) -> T:
            with context.hold.messages():
                return breakers.call(dependency, operation, action)

        horizon_seconds = settings.repair_horizon_seconds
        rebuild = Rebuild(
            ledger,
            PendingChecks(ledger.database, repair_horizon_seconds=horizon_seconds),
            LedgerScan(ledger.database),
            store,
            call,
        )
        with tqdm(desc=f"Rebuilding {store.name}", unit="product") as bar:
            result = rebuild.run(
                shutdown.stopping, lambda so_far: _advance(bar, so_far), from_start=from_start
            )
    _report(store.name, result)
    return result.is_complete and not result.failed


def _advance(bar: "tqdm[None]", so_far: RebuildResult) -> None:
    # Workers add products meanwhile: the bar never runs over its end.
    bar.total = max(so_far.total, so_far.checked)
    bar.update(so_far.checked - bar.n)


def _report(store: str, result: RebuildResult) -> None:
    for product_id, problem in result.failures.items():
        print(printable(f"{product_id}: {problem}"), file=sys.stderr)
    unchanged = result.checked - result.written - result.failed
    print(
        f"{store}: {result.written} products written, {unchanged} were right already, "
        f"{result.failed} failed"
    )
    if not result.is_complete:
        print(
            f"Stopped after {result.checked} of {result.total}: run it again to go on",
            file=sys.stderr,
        )
