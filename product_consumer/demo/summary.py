"""The end of a run of the demo: counts, example searches and the price history of one product."""

import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from product_consumer.demo.product_messages import Fields, image_path
from product_consumer.demo.results import Results
from product_consumer.errors import ProductConsumerError
from product_consumer.images.decoder import ImageDecoder
from product_consumer.money import format_price
from product_consumer.search.searcher import SearchResult
from product_consumer.text import printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_HITS = 3
_PRICES = 5
_BEST_CUSTOMERS = 3


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of the messages of one queue."""

    total: int
    rejected: Counter[str]
    """Rejected messages, by reason."""


@dataclass(frozen=True, slots=True)
class Examples:
    """The queries of the summary, and the product whose prices it prints."""

    words: str
    image: Path
    image_of: str
    """Name of the product on the image."""
    history_id: str
    history_note: str
    """A remark on the order of its messages, or empty."""


def choose_examples(
    products: list[Fields], folder: Path, changed_ids: list[str], *, are_drawn: bool
) -> Examples:
    """Return queries that match some of the products, and the first of ``changed_ids``."""
    first, middle = products[0], products[len(products) // 2]
    return Examples(
        words="red mug" if are_drawn else str(first.get("name", "")),
        image=folder / image_path(folder, middle),
        image_of=str(middle.get("name", "")),
        history_id=changed_ids[0] if changed_ids else str(first.get("id")),
        history_note=" (the newest was sent first)" if changed_ids else "",
    )


def count_lines(products: Settled, orders: Settled, seconds: float) -> Iterator[str]:
    """Yield what became of the messages, and how fast."""
    yield from _settled_lines("Products", "stored", products)
    yield from _settled_lines("Orders", "accepted", orders)
    count = products.total + orders.total
    rate = f"{count / seconds:.0f} messages/s"
    yield f"{count} messages in {seconds:.1f} s ({rate}), the local queue server included"


def _settled_lines(title: str, verb: str, settled: Settled) -> Iterator[str]:
    rejected = settled.rejected.total()
    accepted = settled.total - rejected
    yield f"{title}: received {settled.total}, {verb} {accepted}, rejected {rejected}"
    for reason, count in sorted(settled.rejected.items()):
        yield f"  rejected {count}: {printable(reason)}"


def search_lines(results: Results, examples: Examples) -> Iterator[str]:
    """Yield the results of a search by words, one by image and one by both."""
    words, search = examples.words, results.searcher.search
    yield f'By words: "{printable(words)}"'
    yield from _hit_lines(search(text=words, limit=_HITS))
    pixels = _pixels(results.decoder, examples.image)
    if pixels is not None:
        yield ""
        yield f'By image: the image of "{printable(examples.image_of)}"'
        yield from _hit_lines(search(pixels=pixels, limit=_HITS))
        yield ""
        yield f'By both: that image and "{printable(words)}"'
        yield from _hit_lines(search(text=words, pixels=pixels, limit=_HITS))


def _hit_lines(hits: Sequence[SearchResult]) -> Iterator[str]:
    rows = [hit.row for hit in hits]
    prices = [
        "price unknown"
        if row.price_minor is None or row.currency is None
        else format_price(row.price_minor, row.currency)
        for row in rows
    ]
    ids = [printable(row.id) for row in rows]
    id_width, price_width = max(map(len, ids), default=0), max(map(len, prices), default=0)
    for hit, product_id, price in zip(hits, ids, prices, strict=True):
        name = printable(hit.row.name)
        yield f"  {hit.score:.3f}  {product_id:<{id_width}}  {price:>{price_width}}  {name}"
    if not hits:
        yield "  nothing found"


def _pixels(decoder: ImageDecoder, path: Path) -> "NDArray[np.uint8] | None":
    try:
        return decoder.decode(path.read_bytes())
    except (OSError, ProductConsumerError):
        return None


def history_lines(results: Results, examples: Examples) -> Iterator[str]:
    """Yield the newest prices of one product; nothing where none of its messages was accepted."""
    product_id = examples.history_id
    row = results.products.rows([product_id]).get(product_id)
    if row is None:
        return
    history = results.products.price_history(product_id, _PRICES)
    prices = [format_price(price.price_minor, price.currency) for price in history]
    width = max(map(len, prices), default=0)
    yield f"Prices of {printable(row.id)}, {printable(row.name)}{examples.history_note}:"
    for observed, price in zip(history, prices, strict=True):
        yield f"  {observed.observed_at:%Y-%m-%d %H:%M} UTC  {price:>{width}}"


def order_lines(results: Results) -> Iterator[str]:
    """Yield the total of all orders in the ledger, and the best customers."""
    for total in results.orders.global_stats():
        currency = total.currency
        revenue = format_price(total.revenue_minor, currency)
        yield f"Best customers of {total.total_orders} orders, {revenue} in all:"
        best = results.orders.top("spend", _BEST_CUSTOMERS, currency)
        spends = [format_price(user.spend_minor, currency) for user in best]
        width = max(map(len, spends), default=0)
        for user, spend in zip(best, spends, strict=True):
            yield f"  {printable(user.user_id)}  {spend:>{width}}  {user.order_count} orders"


def command_lines(environment: dict[str, str], examples: Examples) -> Iterator[str]:
    """Yield commands that read the demo's stores, to be typed in the same directory."""
    settings = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items())
    command = f"  {settings} {shlex.quote(_python())} -m product_consumer"
    yield "Go on with what is stored:"
    yield f"{command} search --text {shlex.quote(examples.words)}"
    yield f"{command} history {shlex.quote(examples.history_id)}"


def _python() -> str:
    """Return the interpreter as the reader can type it; it is often that of a virtualenv."""
    executable = Path(sys.executable)
    inside = executable.is_relative_to(Path.cwd())
    return str(executable.relative_to(Path.cwd()) if inside else executable)
