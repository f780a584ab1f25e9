"""The ledger and the stores that the worker has filled, opened for the summary."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from product_consumer.images.decoder import ImageDecoder
from product_consumer.ledger.ledger import Ledger, open_ledger
from product_consumer.orders.ledger import OrderLedger
from product_consumer.search.searcher import Searcher
from product_consumer.settings import Settings
from product_consumer.stores.opening import open_stores


@dataclass(frozen=True, slots=True)
class Results:
    """Ledgers, searcher and decoder, opened for reading; for one thread."""

    searcher: Searcher
    products: Ledger
    orders: OrderLedger
    decoder: ImageDecoder


@contextmanager
def open_results(settings: Settings) -> Iterator[Results]:
    """Open the stores and the model that the worker has closed."""
    # Imported here: torch takes seconds, and a wrong setting must be reported before that.
    from product_consumer.embedding.embedder import load_embedder

    with ExitStack() as opened:
        ledger = open_ledger(settings)
        opened.callback(ledger.close)
        embedder = load_embedder(settings)
        opened.callback(embedder.close)
        stores = open_stores(settings)
        opened.callback(stores.close)
        stores.setup(ledger.claim_model(embedder.model_id, embedder.dimension))
        yield Results(
            Searcher(ledger, stores, embedder),
            ledger,
            OrderLedger(ledger.database),
            ImageDecoder(max_pixels=settings.image_max_pixels),
        )
