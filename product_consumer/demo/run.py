"""The demo: local servers, a producer, a progress bar, and what the run came to.

The consumer threads in between are the real ones; ``thread_runner.py`` runs them.
"""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from product_consumer.demo import tiny_model
from product_consumer.demo.drawings.catalogue import draw_catalogue
from product_consumer.demo.orders import order_bodies, order_summary
from product_consumer.demo.servers import ImageServer, SqsServer
from product_consumer.errors import ConfigurationError
from product_consumer.metrics import Metrics
from product_consumer.orders.ledger import OrderLedger
from product_consumer.products.components import Parts
from product_consumer.queues.sqs.admin import publish, set_up_queues
from product_consumer.queues.sqs.queue import sqs_client
from product_consumer.search.searcher import Searcher, SearchResult
from product_consumer.settings import Settings
from product_consumer.text import printable

SAMPLE_SEED = 2027
_MAX_WAITING = 30
"""Messages that the producer lets wait: the demo's SQS server slows down with its backlog."""

_BROKEN_ON_PURPOSE = (
    '{"id": "broken-1", "name": "Half a message", "pri',
    json.dumps({"id": "broken-2", "name": "No price", "image_url": "http://127.0.0.1/x.jpg"}),
    json.dumps(
        {
            "id": "broken-3",
            "name": "Picture at a forbidden address",
            "price": "9.99",
            "image_url": "http://169.254.169.254/latest/meta-data/",
        }
    ),
)


class Demo:
    """Context manager: servers run inside it. ``settings`` point the worker at them and at embedded
    stores.
    """

    def __init__(self, settings: Settings, catalogue: Path | None) -> None:
        self._closing = ExitStack()
        self._uses_tiny_model = "openclip_model" not in settings.model_fields_set
        self._catalogue = catalogue
        self.settings = settings
        self.published = threading.Event()
        self.order_metrics = Metrics()
        """Counts of the order stream, apart from those of the products."""
        self._products: list[dict[str, Any]] = []
        self._bodies: list[str] = []
        self._order_bodies = order_bodies()
        self._started_at = perf_counter()

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

    def start(self, metrics: Metrics, stopping: threading.Event) -> None:
        """Publish from one thread and show progress from another, until ``stopping``."""
        self._started_at = perf_counter()
        for work in (self._publish, self._show_progress):
            thread = threading.Thread(target=work, args=(metrics, stopping), daemon=True)
            thread.start()
            self._closing.callback(thread.join, 5.0)

    def summarise(self, parts: Parts, orders: OrderLedger) -> None:
        """Print what happened to the messages, where the time went, and three example searches."""
        self._closing.close()
        metrics, searcher = parts.metrics, Searcher(parts.ledger, parts.stores, parts.embedder)
        seconds = perf_counter() - self._started_at
        print("\n".join(_summary_lines(metrics, seconds)))
        print(f"Stored under {self.settings.data_dir}")
        for title, results in self._example_searches(searcher):
            print(f"\n{title}")
            for result in results:
                row = result.row
                print(f"  {result.score:.3f}  {printable(row.id)}  {printable(row.name)}")
        print("\n".join(order_summary(self.order_metrics, orders)))
        print(f"\n{self._notice()}")
        command = f'{_python()} -m product_consumer search --text "blue shoe"'
        print(f"Search on: DATA_DIR={self.settings.data_dir} {command}")

    def _notice(self) -> str:
        if not self._uses_tiny_model:
            return f"Demo with the model {self.settings.openclip_model}."
        return (
            "Demo with a tiny model that knows drawn product pictures only; "
            "production loads ViT-L-14-336 (set OPENCLIP_MODEL to run the demo on another model)."
        )

    def _set_up(self) -> None:
        data_dir = self.settings.data_dir
        if "data_dir" not in self.settings.model_fields_set:
            data_dir = data_dir / "demo"  # never beside what a real worker keeps
        folder = self._read_catalogue(data_dir)
        images = ImageServer(folder)
        images.start()
        self._closing.callback(images.stop)
        sqs = SqsServer()
        endpoint_url = sqs.start()
        self._closing.callback(sqs.stop)
        self.settings = self._local_settings(data_dir, endpoint_url, images.port)
        self._bodies = [self._body(product, folder, images.port) for product in self._products]
        if self._catalogue is None:
            self._bodies += _BROKEN_ON_PURPOSE

    def _local_settings(self, data_dir: Path, endpoint_url: str, image_port: int) -> Settings:
        changes: dict[str, Any] = {
            "data_dir": data_dir,
            "aws_endpoint_url": endpoint_url,
            "aws_region": "us-east-1",
            "sqs_access_key": "demo",
            "sqs_secret_key": "demo",
            "sqs_dead_letter_queue_url": None,
            "orders_dead_letter_queue_url": None,
            "redis_url": None,
            "database_url": None,
            "milvus_uri": None,
            "milvus_token": None,
            "elasticsearch_url": None,
            "image_allowed_networks": [
                *self.settings.image_allowed_networks,
                ip_network("127.0.0.0/8"),
            ],
            "image_allowed_ports": [*self.settings.image_allowed_ports, image_port],
            # A picture that is missing here will not turn up later.
            "image_missing_grace_seconds": 0,
        }
        if "default_currency" not in self.settings.model_fields_set:
            changes["default_currency"] = "USD"
        if self._uses_tiny_model:
            changes |= tiny_model.settings(data_dir / "model")
        local = self._changed(changes)
        client = sqs_client(local)
        hidden_seconds = local.sqs_visibility_timeout_seconds
        products, orders = (
            set_up_queues(client, name, visibility_timeout_seconds=hidden_seconds).queue_url
            for name in ("products", "orders")
        )
        client.close()
        return self._changed(changes | {"sqs_queue_url": products, "orders_queue_url": orders})

    def _changed(self, changes: dict[str, Any]) -> Settings:
        kept = {name: getattr(self.settings, name) for name in self.settings.model_fields_set}
        return Settings.model_validate(kept | changes)

    def _read_catalogue(self, data_dir: Path) -> Path:
        folder = self._catalogue
        if folder is None:
            folder = data_dir / "catalogue"
            self._products = draw_catalogue(folder, SAMPLE_SEED)
            return folder
        try:
            products = json.loads((folder / "products.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigurationError("--catalog", f"{folder}/products.json: {error}") from error
        if not isinstance(products, list) or not all(isinstance(one, dict) for one in products):
            raise ConfigurationError(
                "--catalog", f"{folder}/products.json is not a list of products"
            )
        if not products:
            raise ConfigurationError("--catalog", f"{folder}/products.json lists no product")
        self._products = products
        return folder

    def _body(self, product: dict[str, Any], folder: Path, port: int) -> str:
        """The message a crawler would send for a catalogue entry."""
        image = str(product.get("image", ""))
        path = f"images/{image}" if (folder / "images" / image).is_file() else image
        body = {
            "store_url": f"https://shop.example/p/{quote(str(product.get('id')), safe='')}",
            "timestamp": datetime.now(UTC).isoformat(),
            **{key: value for key, value in product.items() if key != "image"},
            "image_url": f"http://127.0.0.1:{port}/{quote(path)}",
        }
        if not isinstance(body.get("category"), str):
            body.pop("category", None)
        return json.dumps(body, ensure_ascii=False)

    def _publish(self, metrics: Metrics, stopping: threading.Event) -> None:
        client = sqs_client(self.settings)
        streams = (
            (self.settings.sqs_queue_url, self._bodies, metrics),
            (self.settings.orders_queue_url, self._order_bodies, self.order_metrics),
        )
        for url, bodies, received in streams:
            for start in range(0, len(bodies), 10):
                while start - received.received() > _MAX_WAITING and not stopping.wait(0.05):
                    continue
                if not stopping.is_set():
                    publish(client, str(url), bodies[start : start + 10])
        client.close()
        self.published.set()

    def _show_progress(self, metrics: Metrics, stopping: threading.Event) -> None:
        total = len(self._bodies) + len(self._order_bodies)
        bar = tqdm(total=total, unit="msg", desc="Consuming", file=sys.stderr)
        with logging_redirect_tqdm(), bar:
            while bar.n < total:
                stopped = stopping.wait(0.2)
                bar.update(metrics.finished() + self.order_metrics.finished() - bar.n)
                if stopped:
                    break

    def _example_searches(self, searcher: Searcher) -> Iterator[tuple[str, list[SearchResult]]]:
        words = "red mug" if self._catalogue is None else str(self._products[0].get("name", ""))
        example = self._products[len(self._products) // 2]
        picture = self._open_picture(example)
        name = printable(str(example.get("name", "")))
        yield f'By words: "{printable(words)}"', searcher.search(text=words, limit=3)
        if picture is not None:
            yield f"By picture: that of {name}", searcher.search(picture=picture, limit=3)
            title = f'By both: that picture and "{printable(words)}"'
            yield title, searcher.search(text=words, picture=picture, limit=3)

    def _open_picture(self, product: dict[str, Any]) -> NDArray[np.uint8] | None:
        folder = self._catalogue or self.settings.data_dir / "catalogue"
        for path in (folder / "images" / str(product["image"]), folder / str(product["image"])):
            if path.is_file():
                with Image.open(path) as picture:
                    return np.array(ImageOps.exif_transpose(picture).convert("RGB"))
        return None


def _python() -> str:
    """The interpreter as the reader can type it: it is often one of an environment of its own."""
    executable = Path(sys.executable)
    inside = executable.is_relative_to(Path.cwd())
    return str(executable.relative_to(Path.cwd()) if inside else executable)


def _summary_lines(metrics: Metrics, seconds: float) -> Iterator[str]:
    outcomes = metrics.outcomes()
    stored = sum(count for (outcome, _), count in outcomes.items() if outcome == "stored")
    rejected = {
        reason: count for (outcome, reason), count in outcomes.items() if outcome == "rejected"
    }
    yield f"\nReceived {metrics.received()}, stored {stored}, rejected {sum(rejected.values())}"
    for reason, count in sorted(rejected.items()):
        yield f"  rejected {count}: {reason}"
    rate = metrics.finished() / seconds
    yield f"{rate:.1f} messages/s over {seconds:.1f} s, the local queue server included"
    yield "Time per stage, added up over all threads:"
    for stage, spent in metrics.stage_seconds().items():
        if stage != "receive":  # mostly waiting for the next message
            yield f"  {stage:<12} {spent:7.2f} s"
