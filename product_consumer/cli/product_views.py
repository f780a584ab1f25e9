"""Products, search results and histories as text and JSON."""

from collections.abc import Iterator, Sequence
from typing import Any

from product_consumer.models import PriceObservation, ProductRow, ReviewObservation
from product_consumer.money import format_price, to_major
from product_consumer.search.searcher import SearchResult
from product_consumer.text import printable


def result_line(result: SearchResult) -> str:
    """Return score, id, price and name of a search result."""
    row = result.row
    return f"{result.score:7.3f}  {printable(row.id)}  {_price(row)}  {printable(row.name)}"


def result_as_json(result: SearchResult) -> dict[str, Any]:
    """Return the product's fields and ``score``; price in major units as text, times ISO 8601."""
    return product_as_json(result.row) | {"score": result.score}


def product_as_json(row: ProductRow) -> dict[str, Any]:
    """Return a product's fields as JSON values."""
    price = None
    if row.price_minor is not None and row.currency is not None:
        price = str(to_major(row.price_minor, row.currency))
    return {
        "id": row.id,
        "name": row.name,
        "price": price,
        "price_minor": row.price_minor,
        "currency": row.currency,
        "rating": row.rating,
        "reviews_count": row.reviews_count,
        "store_url": row.store_url,
        "image_url": row.image_url,
        "last_update": row.last_update.isoformat(),
        "revision": row.revision,
        "deleted": row.deleted,
    }


def history_lines(
    row: ProductRow,
    flags: Sequence[str],
    prices: Sequence[PriceObservation],
    reviews: Sequence[ReviewObservation],
) -> Iterator[str]:
    """Yield the lines of a product, its flags and its two histories, newest first."""
    state = "deleted, " if row.deleted else ""
    yield f"{printable(row.id)}  {printable(row.name)}  ({state}revision {row.revision})"
    if flags:
        yield f"Flags: {printable(', '.join(flags))}"
    yield "Prices:" if prices else "No price was ever known."
    for price in prices:
        amount = format_price(price.price_minor, price.currency)
        yield f"  {price.observed_at.isoformat()}  {amount}"
    yield "Reviews:" if reviews else "No review was ever seen."
    for review in reviews:
        stars = f"{review.rating} of 5, {review.reviews_count} reviews"
        yield f"  {review.observed_at.isoformat()}  {stars}"


def history_as_json(
    row: ProductRow,
    flags: Sequence[str],
    prices: Sequence[PriceObservation],
    reviews: Sequence[ReviewObservation],
) -> dict[str, Any]:
    """Return ``product``, ``flags``, ``prices`` and ``reviews`` as JSON values."""
    return {
        "product": product_as_json(row),
        "flags": list(flags),
        "prices": [
            {
                "observed_at": price.observed_at.isoformat(),
                "price": str(to_major(price.price_minor, price.currency)),
                "price_minor": price.price_minor,
                "currency": price.currency,
            }
            for price in prices
        ],
        "reviews": [
            {
                "observed_at": review.observed_at.isoformat(),
                "rating": review.rating,
                "reviews_count": review.reviews_count,
            }
            for review in reviews
        ],
    }


def _price(row: ProductRow) -> str:
    if row.price_minor is None or row.currency is None:
        return "price unknown"
    return format_price(row.price_minor, row.currency)
