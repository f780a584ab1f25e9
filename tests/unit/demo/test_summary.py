"""The words and columns of the demo's summary."""

from collections import Counter
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from product_consumer.demo.summary import (
    Examples,
    Settled,
    command_lines,
    count_lines,
    history_lines,
    search_lines,
)
from product_consumer.models import PriceObservation
from tests.support.factories import jpeg_bytes

REAL_ROW = {"name": "Red mug", "currency": "EUR"}


def row(**fields: Any) -> Any:
    return SimpleNamespace(**(REAL_ROW | fields))


def examples(**fields: Any) -> Examples:
    return Examples(
        **(
            {
                "words": "red mug",
                "image": SimpleNamespace(read_bytes=lambda: jpeg_bytes((60, 60))),
                "image_of": "Black notebook",
                "history_id": "demo-1",
                "history_note": "",
            }
            | fields
        )
    )


def test_counts_say_what_became_of_every_message() -> None:
    products = Settled(10, Counter({"json_invalid": 2, "missing:price": 1}))
    lines = list(count_lines(products, Settled(4, Counter()), 2.0))

    assert lines == [
        "Products: received 10, stored 7, rejected 3",
        "  rejected 2: json_invalid",
        "  rejected 1: missing:price",
        "Orders: received 4, accepted 4, rejected 0",
        "14 messages in 2.0 s (7 messages/s), the local queue server included",
    ]


def test_hits_stand_in_columns() -> None:
    rows = [row(id="a", price_minor=1095), row(id="long-id", price_minor=None)]
    hits = [SimpleNamespace(row=row, score=0.5) for row in rows]
    searcher = SimpleNamespace(search=lambda **_query: hits)
    results: Any = SimpleNamespace(
        searcher=searcher, decoder=SimpleNamespace(decode=lambda data: data)
    )
    lines = list(search_lines(results, examples()))

    assert lines[:3] == [
        'By words: "red mug"',
        "  0.500  a            10.95 EUR  Red mug",
        "  0.500  long-id  price unknown  Red mug",
    ]
    assert 'By image: the image of "Black notebook"' in lines
    assert 'By both: that image and "red mug"' in lines


def test_a_search_without_hits_says_so() -> None:
    searcher = SimpleNamespace(search=lambda **_query: [])
    results: Any = SimpleNamespace(
        searcher=searcher, decoder=SimpleNamespace(decode=lambda data: data)
    )

    assert "  nothing found" in list(search_lines(results, examples()))


def test_a_history_is_one_line_per_price_newest_first() -> None:
    prices = [
        PriceObservation(datetime(2026, 11, 27, 1, 29, tzinfo=UTC), 1095, "EUR"),
        PriceObservation(datetime(2025, 9, 1, 8, 0, tzinfo=UTC), 131_400, "EUR"),
    ]
    ledger = SimpleNamespace(
        rows=lambda ids: {ids[0]: row(id=ids[0])}, price_history=lambda _id, _limit: prices
    )
    results: Any = SimpleNamespace(products=ledger)

    assert list(history_lines(results, examples(history_note=" (late)"))) == [
        "Prices of demo-1, Red mug (late):",
        "  2026-11-27 01:29 UTC     10.95 EUR",
        "  2025-09-01 08:00 UTC  1,314.00 EUR",
    ]


def test_a_product_that_was_rejected_has_no_history() -> None:
    results: Any = SimpleNamespace(products=SimpleNamespace(rows=lambda _ids: {}))

    assert list(history_lines(results, examples())) == []


def test_commands_are_quoted_for_the_shell() -> None:
    environment = {"DATA_DIR": "/tmp/a b", "DATABASE_URL": ""}
    _, search, history = command_lines(environment, examples(history_id="$(boo)"))

    assert search.lstrip().startswith("DATA_DIR='/tmp/a b' DATABASE_URL='' ")
    assert search.endswith("-m product_consumer search --text 'red mug'")
    assert history.endswith("-m product_consumer history '$(boo)'")
