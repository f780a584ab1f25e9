"""Processes that set something up at the same moment, and share nothing with that of the tests."""

import multiprocessing
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

from product_consumer.models import StoreIdentity

COUNT = 3
# Imported once, in the process that forks the others: half a dozen times they took ten seconds.
_PRELOADED = [
    *("pytest", "hypothesis", "pymilvus", __name__, "product_consumer.stores.opening"),
    *("product_consumer.stores.elasticsearch.store", "product_consumer.stores.milvus.store"),
]


def in_several_processes(function: Callable[..., Any], *arguments: Any) -> Sequence[Any]:
    """Call a function of a module in each of three processes; return the results."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    with context.Pool(COUNT) as pool:
        return pool.starmap(function, [arguments] * COUNT, chunksize=1)


def set_up_ledger(open_ledger: Callable[[], Any]) -> Any:
    with closing(open_ledger()) as ledger:
        return ledger.setup()


def set_up_store(open_store: Callable[[], Any], identity: StoreIdentity) -> None:
    with closing(open_store()) as store:
        store.setup(identity)
