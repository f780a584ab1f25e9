"""The components of the product stream, built from settings and closed in reverse order."""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from product_consumer.database.connection import Database
from product_consumer.images.decoder import ImageDecoder
from product_consumer.images.fetcher import ImageFetcher
from product_consumer.ledger.ledger import Ledger, open_ledger
from product_consumer.pipeline.context import ProcessContext, new_context
from product_consumer.products.parser import ProductParser
from product_consumer.products.shared_stores import SharedStores, share
from product_consumer.queue_addresses import StreamName
from product_consumer.queues.base import MessageQueue
from product_consumer.queues.in_flight import InFlightTracker
from product_consumer.queues.opening import open_queue
from product_consumer.settings import Settings
from product_consumer.stores.base import ProductStore
from product_consumer.stores.opening import Stores, open_stores, reach_servers
from product_consumer.stores.probe import probe_writing

if TYPE_CHECKING:
    from product_consumer.embedding.embedder import Embedder

log = logging.getLogger(__name__)


class ProductComponents:
    """The queue, ledger, model, stores and image tools of the product stream and its commands.

    One thread opens and closes them. Call the ``open_`` methods in their order here; each may raise
    ``Unavailable`` and be called again, or ``ConfigurationError``. An attribute exists once its
    ``open_`` method has returned.
    """

    queue: MessageQueue
    in_flight: InFlightTracker
    ledger: Ledger
    stores: Stores
    embedder: "Embedder"

    def __init__(
        self,
        settings: Settings,
        context: ProcessContext | None = None,
        database: Database | None = None,
    ) -> None:
        """``database``: a shared one, which its owner closes."""
        self._settings = settings
        self._database = database
        self._closing = ExitStack()
        self.context = context or new_context()
        self.parser = ProductParser(
            default_currency=settings.default_currency, source_timezone=settings.source_timezone
        )
        self.decoder = ImageDecoder(max_pixels=settings.image_max_pixels)
        self.fetcher = ImageFetcher(
            allowed_networks=settings.image_allowed_networks,
            allowed_ports=settings.image_allowed_ports,
            timeout_seconds=settings.image_timeout_seconds,
            max_bytes=settings.image_max_bytes,
            missing_grace_seconds=settings.image_missing_grace_seconds,
        )
        self._closing.callback(self.fetcher.close)

    def opening_steps(self) -> Sequence[Callable[[], object]]:
        """Return what a worker calls, in order."""
        return (
            self.open_queue,
            self.open_ledger,
            # Before the model, which takes long: a wrong address is told at once.
            partial(reach_servers, self._settings),
            self.load_model,
            self.open_stores,
        )

    def open_queue(self) -> None:
        """Connect to the queue and check that messages may be received and settled."""
        self.queue = open_queue(self._settings, StreamName.PRODUCTS)
        self._closing.callback(self.queue.close)
        self.in_flight = InFlightTracker(self.queue, self._settings.lease_seconds)

    def open_ledger(self) -> None:
        """Create or check the ledger's tables."""
        ledger = open_ledger(self._settings, self._database)
        try:
            ledger.setup()
            ledger.probe()
        except BaseException:
            self._close_ledger(ledger)
            raise
        self.ledger = ledger
        self._closing.callback(self._close_ledger, ledger)

    def load_model(self) -> None:
        """Load the model that the settings name, try it, and tie the ledger to it."""
        # Imported here: torch takes seconds, and most commands do without.
        from product_consumer.embedding.embedder import load_embedder

        if not hasattr(self, "embedder"):
            self.embedder = load_embedder(self._settings)
            self._closing.callback(self.embedder.close)
            log.info("Model ready, warmed up in %.1f s", self.embedder.warm_up())
            # Only now: the warm-up is no pass of a message.
            self.embedder.watch_passes(self.context.metrics.observe_forward_pass)
        self.ledger.claim_model(self.embedder.model_id, self.embedder.dimension)

    def model_failure(self) -> str | None:
        """Return why the model cannot work any more; None while it can."""
        return "the model thread died" if self.embedder.failed else None

    @property
    def is_model_known(self) -> bool:
        """Whether the ledger is tied to a model, by this process or an earlier one."""
        return "model_id" in self.ledger.meta()

    def open_stores(self) -> None:
        """Connect to the stores, create what is missing, check that they are of this ledger."""
        stores = open_stores(self._settings)
        try:
            identity = self.ledger.identity()
            stores.setup(identity)
            for store in stores.all:
                probe_writing(store, identity.dimension)
        except BaseException:
            stores.close()
            raise
        self.stores = stores
        self._closing.callback(stores.close)

    def shared_stores(self) -> SharedStores:
        """Return ledger and stores as the threads of a worker share them; call it once."""
        return share(self.ledger, self.stores.all, self.context)

    def build_stores(self) -> Stores:
        """Return the stores before their set-up, so that a caller can set up one of them.

        ``close`` closes them.
        """
        stores = open_stores(self._settings)
        self._closing.callback(stores.close)
        return stores

    def store_checks(self) -> dict[str, Callable[[], str]]:
        """Return, for each store by name, a function that sets it up and describes it."""
        stores = self.build_stores()
        identity = self.ledger.identity()

        def check(store: ProductStore) -> str:
            store.setup(identity)
            probe_writing(store, identity.dimension)
            return store.describe()

        return {store.name: partial(check, store) for store in stores.all}

    def close(self) -> None:
        """Close everything that was opened, last opened first."""
        self._closing.close()

    def _close_ledger(self, ledger: Ledger) -> None:
        if self._database is None:
            ledger.close()
