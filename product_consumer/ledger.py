"""The ledger: SQL tables that decide which message is newest and hold everything else can be
rebuilt from.

One transaction per batch (``record``) does four things: a compare-and-set by ``Version`` that gives
every accepted change the product's next revision, the history rows, the mark ``check_after``, and
reading the current rows back. The stores are then given those current rows, never the messages, so
a message that lost the comparison re-drives the newest state instead of being acknowledged blindly.
Checking first and writing later would let two machines overwrite each other; the mark is set before
any store is written, so a crash between the two stays visible.
"""

import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Insert, case, func, select, tuple_, update

from product_consumer.errors import ConfigurationError, ProductConsumerError, RejectMessage
from product_consumer.ledger_database import Database, open_database
from product_consumer.ledger_schema import (
    SCHEMA_VERSION,
    ledger_meta,
    metadata,
    price_history,
    products,
    review_history,
)
from product_consumer.models import (
    Embedding,
    Embeddings,
    PictureSource,
    PriceObservation,
    Product,
    ProductRow,
    ReviewObservation,
    StoreIdentity,
    Version,
)
from product_consumer.settings import Settings

log = logging.getLogger(__name__)

_PICTURE = ("image_sha256", "image_etag", "image_last_modified")
# Columns that a tombstone leaves as they were: it carries none of them.
_PAYLOAD = (
    "name",
    "store_url",
    "price_minor",
    "currency",
    "rating",
    "reviews_count",
    "image_url",
    "description",
    "category",
    "brand",
)
_DECIDED = ("last_update", "deleted", "version_rank", "version_value", "payload_hash")
_VECTORS = ("text_embedding", "image_embedding", "model_id")
_ROW_COLUMNS = (
    products.c.id,
    products.c.revision,
    products.c.deleted,
    products.c.name,
    products.c.store_url,
    products.c.price_minor,
    products.c.currency,
    products.c.rating,
    products.c.reviews_count,
    products.c.image_url,
    products.c.last_update,
    products.c.text_embedding,
    products.c.image_embedding,
)
_PICTURE_COLUMNS = (
    products.c.id,
    products.c.name,
    products.c.image_url,
    products.c.image_sha256,
    products.c.image_etag,
    products.c.image_last_modified,
    products.c.text_embedding,
    products.c.image_embedding,
)


@dataclass(frozen=True, slots=True)
class Change:
    """One message's effect. ``embeddings`` is None for a tombstone and for a message that the
    ledger already outdates.
    """

    product: Product
    embeddings: Embeddings | None
    picture: PictureSource | None = None


@dataclass(frozen=True, slots=True)
class KnownPicture:
    """The picture and vectors that the ledger holds for a product."""

    name: str
    image_url: str
    source: PictureSource
    embeddings: Embeddings


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a batch left behind: the current row of every product in it, and the changes refused on
    their own, by position.
    """

    rows: Mapping[str, ProductRow]
    failures: Mapping[int, ProductConsumerError] = field(default_factory=dict)


def open_ledger(settings: Settings) -> "Ledger":
    """Return the ledger that the settings name; connects to nothing yet."""
    return Ledger(open_database(settings), repair_horizon_seconds=settings.repair_horizon_seconds)


class Ledger:
    """Thread-safe. Every method but ``close`` may raise ``LedgerUnavailable`` or
    ``ConfigurationError``.
    """

    def __init__(self, database: Database, *, repair_horizon_seconds: int) -> None:
        self.database = database
        self._repair_horizon = timedelta(seconds=repair_horizon_seconds)
        self._model_id: str | None = None
        self._upsert = _upsert_statement(database.insert)

    def setup(self, created_by: str = "worker") -> str:
        """Create what is missing and return the ledger's id; safe when several processes start
        together.

        ``created_by`` is kept from the first set-up. Raises ``ConfigurationError`` when the tables
        were made by a newer version.
        """
        first = {
            "ledger_id": str(uuid.uuid4()),
            "schema_version": str(SCHEMA_VERSION),
            "created_by": created_by,
        }
        with self.database.setting_up() as connection:
            metadata.create_all(connection)
            self._keep_first(connection, first)
            found = self._read_meta(connection)
        if int(found["schema_version"]) > SCHEMA_VERSION:
            raise ConfigurationError(
                "DATABASE_URL",
                f"the ledger has schema {found['schema_version']}, this program knows "
                f"{SCHEMA_VERSION}: upgrade it",
            )
        return found["ledger_id"]

    def claim_model(self, model_id: str, dimension: int) -> StoreIdentity:
        """Tie the ledger's vectors to one model, the first that asks.

        Raises ``ConfigurationError`` when the ledger holds vectors of another model: vectors of two
        models cannot be compared.
        """
        with self.database.writing() as connection:
            self._keep_first(connection, {"model_id": model_id, "dimension": str(dimension)})
            found = self._read_meta(connection)
        if found["model_id"] != model_id or found["dimension"] != str(dimension):
            raise ConfigurationError(
                "OPENCLIP_MODEL",
                f"the ledger holds vectors of {found['model_id']} ({found['dimension']} numbers), "
                f"this is {model_id} ({dimension}): set the model back, or use another DATA_DIR "
                "or DATABASE_URL",
            )
        self._model_id = model_id
        return StoreIdentity(found["ledger_id"], model_id, dimension)

    def meta(self) -> dict[str, str]:
        """Return ``ledger_id``, ``schema_version``, ``created_by`` and, once claimed, ``model_id``
        and ``dimension``.
        """
        with self.database.reading() as connection:
            return self._read_meta(connection)

    def outdated(self, candidates: Iterable[Product]) -> set[tuple[str, Version]]:
        """Return (id, version) of the candidates that the stored state equals or outdates.

        Such a message needs no image and no embedding; versions only grow, so the answer stays
        true.
        """
        versions = {(product.id, product.version) for product in candidates}
        columns = (
            products.c.id,
            products.c.version_rank,
            products.c.version_value,
            products.c.payload_hash,
        )
        with self.database.reading() as connection:
            found = connection.execute(
                select(*columns).where(
                    products.c.id.in_({product_id for product_id, _ in versions})
                )
            ).all()
        stored = {
            row.id: Version(row.version_rank, row.version_value, row.payload_hash) for row in found
        }
        return {
            (key, version) for key, version in versions if key in stored and version <= stored[key]
        }

    def known_pictures(self, product_ids: Iterable[str]) -> dict[str, KnownPicture]:
        """Return what each product's current vectors were made of, where it has any."""
        query = select(*_PICTURE_COLUMNS).where(
            products.c.id.in_(set(product_ids)),
            products.c.image_sha256.is_not(None),
            products.c.model_id == self._model_id,
        )
        with self.database.reading() as connection:
            return {row.id: _as_known_picture(row) for row in connection.execute(query)}

    def image_embeddings(self, sha256s: Iterable[str]) -> dict[str, Embedding]:
        """Return the image vectors that this model made of pictures with these digests."""
        found: dict[str, Embedding] = {}
        with self.database.reading() as connection:
            for sha256 in set(sha256s):
                # One row of each: a placeholder picture may stand for any number of products.
                packed = connection.execute(
                    select(products.c.image_embedding)
                    .where(products.c.image_sha256 == sha256)
                    .where(products.c.model_id == self._model_id)
                    .limit(1)
                ).scalar_one_or_none()
                if packed is not None:
                    found[sha256] = _unpack(packed)
        return found

    def record(self, changes: Sequence[Change]) -> Recorded:
        """Decide, append history, mark, and read the current rows back, in one transaction.

        A change that the database refuses for its own data is reported in ``failures`` and leaves
        the others untouched.
        """
        if not changes:
            return Recorded({})
        try:
            return Recorded(self._record_together(changes))
        except RejectMessage as error:
            if len(changes) == 1:
                return Recorded({}, {0: error})
        rows: dict[str, ProductRow] = {}
        failures: dict[int, ProductConsumerError] = {}
        for position, change in enumerate(changes):
            alone = self.record([change])
            rows.update(alone.rows)
            if alone.failures:
                failures[position] = alone.failures[0]
        return Recorded(rows, failures)

    def revisions(self, product_ids: Iterable[str]) -> dict[str, int]:
        """Return the current revision of each product that exists, tombstones included."""
        with self.database.reading() as connection:
            found = connection.execute(
                select(products.c.id, products.c.revision).where(
                    products.c.id.in_(set(product_ids))
                )
            )
            return {row.id: row.revision for row in found}

    def rows(self, product_ids: Iterable[str]) -> dict[str, ProductRow]:
        """Return the current row of each product that exists, tombstones included."""
        with self.database.reading() as connection:
            return _select_rows(connection, set(product_ids))

    def price_history(self, product_id: str, limit: int = 1000) -> list[PriceObservation]:
        """Return price observations, newest first."""
        columns = price_history.c
        query = (
            select(columns.observed_at, columns.price_minor, columns.currency)
            .where(columns.product_id == product_id)
            .order_by(columns.observed_at.desc())
            .limit(limit)
        )
        with self.database.reading() as connection:
            return [PriceObservation(*row) for row in connection.execute(query)]

    def review_history(self, product_id: str, limit: int = 1000) -> list[ReviewObservation]:
        """Return review observations, newest first."""
        columns = review_history.c
        query = (
            select(columns.observed_at, columns.rating, columns.reviews_count)
            .where(columns.product_id == product_id)
            .order_by(columns.observed_at.desc())
            .limit(limit)
        )
        with self.database.reading() as connection:
            return [ReviewObservation(*row) for row in connection.execute(query)]

    def check(self) -> str:
        """Return one line on what was reached."""
        with self.database.reading() as connection:
            count = connection.execute(
                select(func.count()).select_from(products).where(~products.c.deleted)
            ).scalar_one()
        return f"{self.database.address}, {count} products"

    def close(self) -> None:
        """Close all connections."""
        self.database.close()

    def _record_together(self, changes: Sequence[Change]) -> dict[str, ProductRow]:
        # Sorted, so that two processes lock the rows of a batch in the same order.
        ordered = sorted(changes, key=lambda change: (change.product.id, change.product.version))
        ids = {change.product.id for change in changes}
        check_after = datetime.now(UTC) + self._repair_horizon
        with self.database.writing() as connection:
            connection.execute(self._upsert, [self._values(change) for change in ordered])
            self._append_history(connection, [change.product for change in ordered])
            # Outdated messages mark their product too: their delivery may be the retry of a cut-off
            # write.
            connection.execute(
                update(products).where(products.c.id.in_(ids)).values(check_after=check_after)
            )
            return _select_rows(connection, ids)

    def _values(self, change: Change) -> dict[str, Any]:
        product, embeddings, picture = change.product, change.embeddings, change.picture
        values: dict[str, Any] = {name: getattr(product, name) for name in _PAYLOAD}
        values |= {
            "id": product.id,
            "last_update": product.observed_at,
            "deleted": product.deleted,
            "version_rank": product.version.rank,
            "version_value": product.version.value,
            "payload_hash": product.version.payload_hash,
            "text_embedding": None if embeddings is None else _pack(embeddings.text),
            "image_embedding": None if embeddings is None else _pack(embeddings.image),
            "model_id": None if embeddings is None else self._model_id,
            "image_sha256": picture.sha256 if picture else None,
            "image_etag": picture.etag if picture else None,
            "image_last_modified": picture.last_modified if picture else None,
            "revision": 1,
        }
        return values

    def _append_history(self, connection: Connection, seen: Sequence[Product]) -> None:
        prices = [
            {
                "product_id": product.id,
                "observed_at": product.observed_at,
                "price_minor": product.price_minor,
                "currency": product.currency,
            }
            for product in seen
            if product.price_minor is not None and not product.deleted
        ]
        reviews = [
            {
                "product_id": product.id,
                "observed_at": product.observed_at,
                "rating": product.rating,
                "reviews_count": product.reviews_count,
            }
            for product in seen
            if product.rating is not None
            and product.reviews_count is not None
            and not product.deleted
        ]
        for table, rows in ((price_history, prices), (review_history, reviews)):
            if rows:
                connection.execute(self.database.insert(table).on_conflict_do_nothing(), rows)

    def _keep_first(self, connection: Connection, values: Mapping[str, str]) -> None:
        statement = self.database.insert(ledger_meta).on_conflict_do_nothing()
        connection.execute(
            statement, [{"key": key, "value": value} for key, value in values.items()]
        )

    @staticmethod
    def _read_meta(connection: Connection) -> dict[str, str]:
        return {row.key: row.value for row in connection.execute(select(ledger_meta))}


def _upsert_statement(dialect_insert: Any) -> Insert:
    """Insert, or replace an older version; a tombstone keeps the payload it hides."""
    statement = dialect_insert(products)
    new = statement.excluded
    changes: dict[str, ColumnElement[Any]] = {
        name: case((new.deleted, products.c[name]), else_=new[name])
        for name in (*_PAYLOAD, *_PICTURE)
    }
    changes |= {name: new[name] for name in _DECIDED}
    changes |= {name: func.coalesce(new[name], products.c[name]) for name in _VECTORS}
    changes["revision"] = products.c.revision + 1
    order = ("version_rank", "version_value", "payload_hash")
    is_newer = tuple_(*(products.c[name] for name in order)) < tuple_(
        *(new[name] for name in order)
    )
    result: Insert = statement.on_conflict_do_update(
        index_elements=[products.c.id], set_=changes, where=is_newer
    )
    return result


def _select_rows(connection: Connection, product_ids: set[str]) -> dict[str, ProductRow]:
    found = connection.execute(select(*_ROW_COLUMNS).where(products.c.id.in_(product_ids)))
    return {row.id: _as_product_row(row) for row in found}


def _as_product_row(row: Any) -> ProductRow:
    embeddings = None
    if row.text_embedding is not None and row.image_embedding is not None:
        embeddings = Embeddings(_unpack(row.text_embedding), _unpack(row.image_embedding))
    plain = {name: value for name, value in row._mapping.items() if not name.endswith("_embedding")}
    return ProductRow(**plain, embeddings=embeddings)


def _as_known_picture(row: Any) -> KnownPicture:
    source = PictureSource(row.image_sha256, row.image_etag, row.image_last_modified)
    embeddings = Embeddings(_unpack(row.text_embedding), _unpack(row.image_embedding))
    return KnownPicture(row.name, row.image_url, source, embeddings)


def _pack(embedding: Embedding) -> bytes:
    return embedding.astype(np.float16).tobytes()


def _unpack(packed: bytes) -> Embedding:
    # Rounding to float16 moved the length by up to 5e-4; readers are promised unit length.
    vector = np.frombuffer(packed, dtype=np.float16).astype(np.float32)
    length = float(np.linalg.norm(vector))
    return vector / np.float32(length) if length > 0 else vector
