"""A test record: shows whether a store takes writes now, whatever it says about its health."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from product_consumer.errors import StoreUnavailable
from product_consumer.models import Embeddings, ProductRow
from product_consumer.stores.base import ProductStore

PROBE_ID = " write probe"
"""Ids of products never begin with a space, so no product has this one."""


def probe_writing(store: ProductStore, dimension: int) -> None:
    """Write a test record and delete it again; raise what the store raises while it refuses.

    ``dimension``: numbers of one embedding. The record has no words, and it is in no ledger, so
    neither search finds it. A refusal of this good record is no fault of the record: it raises
    ``StoreUnavailable``.
    """
    record = _record(dimension)
    for row in (record, replace(record, deleted=True)):
        for error in store.write([row]).values():
            raise StoreUnavailable(store.name, f"refuses even a test record: {error}")


def _record(dimension: int) -> ProductRow:
    unit = np.zeros(dimension, np.float32)
    unit[0] = 1.0
    return ProductRow(
        id=PROBE_ID,
        revision=1,
        deleted=False,
        name="",
        store_url="https://example.com/",
        price_minor=100,
        currency="USD",
        rating=5.0,
        reviews_count=1,
        image_url="https://example.com/",
        last_update=datetime.now(UTC),
        embeddings=Embeddings(unit, unit),
    )
