"""The demo: an ordinary worker between local servers, a producer and a summary.

The worker consumes from the queues that its settings name. It must not end at an empty queue before
``Demo.published`` is set. The demo needs nothing else of it.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from product_consumer.demo.drawings.catalogue import draw_catalogue
from product_consumer.demo.feed import Feed
from product_consumer.demo.orders import order_bodies
from product_consumer.demo.product_messages import (
    BROKEN_ON_PURPOSE,
    product_messages,
    read_catalogue,
)
from product_consumer.demo.progress import Progress
from product_consumer.demo.results import open_results
from product_consumer.demo.servers import ImageServer, SqsServer
from product_consumer.demo.summary import (
    Settled,
    choose_examples,
    command_lines,
    count_lines,
    history_lines,
    order_lines,
    search_lines,
)
from product_consumer.demo.worker_settings import (
    changed,
    claim_ledger,
    embedded_settings,
    uses_tiny_model,
    worker_settings,
)
from product_consumer.queues.base import QueueUrls
from product_consumer.queues.sqs.admin import set_up_queues
from product_consumer.queues.sqs.client import sqs_client
from product_consumer.runtime.exit_codes import EXIT_OK
from product_consumer.settings import Settings
from product_consumer.stores.milvus.embedded import EmbeddedMilvus

log = logging.getLogger(__name__)

SAMPLE_SEED = 2027
_JOIN_SECONDS = 5.0
# A command that reads the demo's stores must not see these settings of the operator.
_STORE_ADDRESSES = ("database_url", "milvus_uri", "elasticsearch_url")


class Demo:
    """Context manager: local servers run within it, and ``settings`` point a worker at them."""

    settings: Settings

    def __init__(self, settings: Settings, catalogue: Path | None) -> None:
        """``catalogue``: a folder with ``products.json`` and images; None draws one."""
        self._given_settings = settings
        self._catalogue = catalogue
        self._closing = ExitStack()
        self.published = threading.Event()
        """Set once every message was sent, or sending has failed."""

    def __enter__(self) -> "Demo":
        print(self._notice(), flush=True)
        try:
            self._set_up()
        except BaseException:
            self._closing.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def run(self, work: Callable[[Settings], int]) -> int:
        """Publish and print progress while ``work`` consumes; return its exit code.

        After ``EXIT_OK`` this prints the summary of queues, ledger and stores.
        """
        progress = Progress(self._products, self._orders)
        with self._publishing(progress):
            code = work(self.settings)
        if code == EXIT_OK:
            self._print_summary(progress)
        return code

    @contextmanager
    def _publishing(self, progress: Progress) -> Iterator[None]:
        ended = threading.Event()
        threads = [
            threading.Thread(target=work, args=(ended,), name=name, daemon=True)
            for name, work in (("demo-producer", self._publish), ("progress", progress.watch))
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            for thread in threads:
                thread.join(_JOIN_SECONDS)

    def _publish(self, ended: threading.Event) -> None:
        try:
            for feed in (self._products, self._orders):
                feed.publish(ended)
        finally:
            # Also after an error: the worker would wait for ever for messages that cannot come.
            self.published.set()

    def _print_summary(self, progress: Progress) -> None:
        if progress.count() < progress.total:
            print(f"\nStopped early, with {progress.in_words()} handled")
            return
        products, orders = (
            Settled(feed.counts().total, feed.take_rejections())
            for feed in (self._products, self._orders)
        )
        log.info("Opening what was stored, for the example searches")
        with open_results(self.settings) as results:
            blocks = (
                list(count_lines(products, orders, progress.seconds)),
                list(search_lines(results, self._examples)),
                list(history_lines(results, self._examples)),
                list(order_lines(results)),
                [self._notice()],
                list(command_lines(self._environment(), self._examples)),
            )
        for block in filter(None, blocks):
            print("", *block, sep="\n")

    def _notice(self) -> str:
        if not uses_tiny_model(self._given_settings):
            return f"Demo with the model {self._given_settings.openclip_model}."
        return (
            "Demo with a tiny model that knows drawn product pictures only; "
            "production loads ViT-L-14-336\n"
            "(set OPENCLIP_MODEL to run the demo on another model)."
        )

    def _set_up(self) -> None:
        settings = embedded_settings(self._given_settings)
        claim_ledger(settings)
        self._keep_open(EmbeddedMilvus(Path(settings.milvus_address)))
        folder = self._catalogue or settings.data_dir / "catalogue"
        if self._catalogue is None:
            products = draw_catalogue(folder, SAMPLE_SEED)
        else:
            products = read_catalogue(folder)
        images, sqs = ImageServer(folder), SqsServer()
        images.start()
        self._closing.callback(images.stop)
        settings = worker_settings(settings, sqs.start(), images.port)
        self._closing.callback(sqs.stop)
        messages = product_messages(products, folder, images.port, settings.default_currency)
        broken = BROKEN_ON_PURPOSE if self._catalogue is None else ()
        self._open_queues(settings, [*messages.bodies, *broken])
        self._examples = choose_examples(
            products, folder, messages.changed_ids, are_drawn=self._catalogue is None
        )

    def _keep_open(self, milvus: EmbeddedMilvus) -> None:
        """Let the database outlive the worker, since the summary searches it.

        Closing a large database and opening it again takes a minute.
        """
        self._closing.callback(milvus.close)
        milvus.start()

    def _open_queues(self, settings: Settings, product_bodies: list[str]) -> None:
        client = sqs_client(settings)
        self._closing.callback(client.close)

        def set_up(name: str) -> QueueUrls:
            hidden_seconds = settings.lease_seconds
            return set_up_queues(client, name, visibility_timeout_seconds=hidden_seconds)

        products, orders = set_up("products"), set_up("orders")
        self._products = Feed(client, products, product_bodies)
        self._orders = Feed(client, orders, order_bodies())
        urls = {"queue_url": products.queue_url, "orders_queue_url": orders.queue_url}
        self.settings = changed(settings, urls)

    def _environment(self) -> dict[str, str]:
        """Return the variables with which a command finds the demo's stores."""
        hidden = [name for name in _STORE_ADDRESSES if getattr(self._given_settings, name)]
        return {"DATA_DIR": str(self.settings.data_dir)} | {name.upper(): "" for name in hidden}
