"""The ledger: SQL tables that decide which message is newest, and from which stores are rebuilt.

Recording a batch (``record``) does four things:

- it compares and sets by ``Version``: every accepted change gets the product's next revision;
- it appends the history rows;
- it sets the pending check ``check_after``;
- it reads the current rows back.

The stores are then given those current rows, never the messages. So an outdated message writes the
newest state again instead of being acknowledged blindly. To check first and write later would let
two machines overwrite each other. The pending check is set before any store is written, so a crash
between the two stays visible.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Select, func, select

from product_consumer.database.connection import Database, open_database
from product_consumer.errors import (
    ConfigurationError,
    ProductConsumerError,
    RejectMessage,
)
from product_consumer.ledger.queries import image_embeddings_query, newest_query
from product_consumer.ledger.recording import Recording
from product_consumer.ledger.rows import (
    LOOK_UP_COLUMNS,
    LookedUp,
    ProductChange,
    RowReader,
    as_looked_up,
    unpack_embeddings,
)
from product_consumer.ledger.tables import (
    LEDGER_SCHEMA_VERSION,
    create_tables,
    ledger_meta,
    price_history,
    products,
    review_history,
)
from product_consumer.models import (
    PriceObservation,
    Product,
    ProductRow,
    ReviewObservation,
    StoreIdentity,
)
from product_consumer.settings import Settings
from product_consumer.vectors import Embedding, unpack

MAX_COUNTED = 100_000
"""Counting so many rows takes a database a tenth of a second; 10 million would exceed its timeout.
"""


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """The result of recording a batch."""

    rows: Mapping[str, ProductRow]
    """The current row of every product in the batch, by id."""
    failures: Mapping[int, ProductConsumerError] = field(default_factory=dict)
    """Why single changes were refused, by position in the batch."""


def open_ledger(settings: Settings, database: Database | None = None) -> "Ledger":
    """Return the ledger in a database, by default the one that the settings name; connects to
    nothing yet.
    """
    horizon_seconds = settings.repair_horizon_seconds
    return Ledger(database or open_database(settings), repair_horizon_seconds=horizon_seconds)


class Ledger:
    """The newest state of every product, its history, and the model of its embeddings.

    Thread-safe. Every method but ``close`` may raise ``LedgerUnavailable`` or
    ``ConfigurationError``.
    """

    def __init__(self, database: Database, *, repair_horizon_seconds: int) -> None:
        self.database = database
        is_listed = database.among(products.c.id, "ids")
        self._look_up = select(*LOOK_UP_COLUMNS).where(is_listed)
        self._revisions = select(products.c.id, products.c.revision).where(is_listed)
        self._rows = RowReader(database)
        self._image_embeddings = image_embeddings_query(database)
        self._newest_prices = newest_query(database, price_history)
        self._newest_reviews = newest_query(database, review_history)
        self._recording = Recording(database, timedelta(seconds=repair_horizon_seconds))
        self._model_id: str | None = None

    def setup(self, created_by: str = "worker") -> str:
        """Create what is missing and return the ledger's id; safe when several processes start
        together.

        ``created_by`` is kept from the first set-up. Raises ``ConfigurationError`` when the tables
        were made by a newer version.
        """
        first = {
            "ledger_id": str(uuid.uuid4()),
            "schema_version": str(LEDGER_SCHEMA_VERSION),
            "created_by": created_by,
        }
        with self.database.setting_up() as connection:
            create_tables(connection)
            self._keep_first(connection, first)
            meta = self._read_meta(connection)
        if int(meta["schema_version"]) > LEDGER_SCHEMA_VERSION:
            raise ConfigurationError(
                "DATABASE_URL",
                f"the ledger has schema {meta['schema_version']}, this program knows "
                f"{LEDGER_SCHEMA_VERSION}: upgrade it",
            )
        return meta["ledger_id"]

    def claim_model(self, model_id: str, dimension: int) -> StoreIdentity:
        """Bind the ledger's embeddings to one model: the first that claims it.

        ``dimension``: numbers of one embedding. Raises ``ConfigurationError`` when the ledger holds
        embeddings of another model: embeddings of two models cannot be compared.
        """
        with self.database.writing() as connection:
            self._keep_first(connection, {"model_id": model_id, "dimension": str(dimension)})
            meta = self._read_meta(connection)
        if meta["model_id"] != model_id or meta["dimension"] != str(dimension):
            raise ConfigurationError(
                "OPENCLIP_MODEL",
                f"the ledger holds embeddings of {meta['model_id']} ({meta['dimension']} numbers), "
                f"this is {model_id} ({dimension}): set the model back, or use another DATA_DIR "
                "or DATABASE_URL",
            )
        self._model_id = model_id
        return StoreIdentity(meta["ledger_id"], model_id, dimension)

    def meta(self) -> dict[str, str]:
        """Return ``ledger_id``, ``schema_version``, ``created_by`` and, once claimed, ``model_id``
        and ``dimension``.
        """
        with self.database.reading() as connection:
            return self._read_meta(connection)

    def identity(self) -> StoreIdentity:
        """Return the identity that every store of this ledger carries.

        Raises ``ConfigurationError`` until a worker has claimed a model at its start.
        """
        meta = self.meta()
        if "model_id" not in meta:
            raise ConfigurationError(
                "DATABASE_URL", "the ledger is empty: no worker has used it yet"
            )
        return StoreIdentity(meta["ledger_id"], meta["model_id"], int(meta["dimension"]))

    def look_up(self, candidates: Sequence[Product]) -> list[LookedUp]:
        """Compare each candidate with the ledger's product; return the results in order."""
        ids = self.database.texts({product.id for product in candidates})
        with self.database.reading() as connection:
            rows = connection.execute(self._look_up, {"ids": ids}).all()
        rows_by_id = {row.id: row for row in rows}
        embeddings = unpack_embeddings(rows)
        return [
            as_looked_up(row, embeddings.get(product.id), product.version, self._model_id)
            if (row := rows_by_id.get(product.id)) is not None
            else LookedUp()
            for product in candidates
        ]

    def image_embeddings(self, sha256s: Iterable[str]) -> dict[str, Embedding]:
        """Return the embeddings that this model made of images with these digests, by digest.

        Digests are SHA-256 of the bytes as downloaded, in hex; unknown ones are left out. An
        embedding is float32, shape (dimension,).
        """
        parameters = {"sha256s": self.database.texts(set(sha256s)), "model_id": self._model_id}
        with self.database.reading() as connection:
            rows = connection.execute(self._image_embeddings, parameters).all()
        packed = {sha256: embedding for sha256, embedding in rows if embedding is not None}
        return dict(zip(packed, unpack(list(packed.values())), strict=True))

    def record(self, changes: Sequence[ProductChange]) -> BatchRecord:
        """Write the newer changes, append history, set pending checks, and return current rows.

        A change whose data the database refuses is reported in ``failures``; the others are
        recorded.
        """
        if not changes:
            return BatchRecord({})
        try:
            return BatchRecord(self._recording.record(changes, self._model_id))
        except RejectMessage as error:
            if len(changes) == 1:
                return BatchRecord({}, {0: error})
        rows: dict[str, ProductRow] = {}
        failures: dict[int, ProductConsumerError] = {}
        for position, change in enumerate(changes):
            alone = self.record([change])
            rows.update(alone.rows)
            if alone.failures:
                failures[position] = alone.failures[0]
        return BatchRecord(rows, failures)

    def revisions(self, product_ids: Iterable[str]) -> dict[str, int]:
        """Return the current revision of each product that exists, tombstones included."""
        with self.database.reading() as connection:
            ids = self.database.texts(set(product_ids))
            rows = connection.execute(self._revisions, {"ids": ids})
            return {row.id: row.revision for row in rows}

    def rows(self, product_ids: Iterable[str]) -> dict[str, ProductRow]:
        """Return the current row of each product that exists, tombstones included."""
        with self.database.reading() as connection:
            return self._rows(connection, set(product_ids))

    def flags(self, product_id: str) -> tuple[str, ...]:
        """Return the oddities of the message that a product's content is from."""
        query = select(products.c.flags).where(products.c.id == product_id)
        with self.database.reading() as connection:
            return tuple((connection.execute(query).scalar() or "").split())

    def price_history(self, product_id: str, limit: int = 1000) -> list[PriceObservation]:
        """Return price observations, newest first."""
        return self.recent_prices([product_id], limit).get(product_id, [])

    def review_history(self, product_id: str, limit: int = 1000) -> list[ReviewObservation]:
        """Return review observations, newest first."""
        return self.recent_reviews([product_id], limit).get(product_id, [])

    def recent_prices(
        self, product_ids: Iterable[str], limit: int
    ) -> dict[str, list[PriceObservation]]:
        """Return the newest price observations of each product that has any, newest first."""
        prices: dict[str, list[PriceObservation]] = {}
        for product_id, at, minor, currency in self._newest(
            self._newest_prices, product_ids, limit
        ):
            prices.setdefault(product_id, []).append(PriceObservation(at, minor, currency))
        return prices

    def recent_reviews(
        self, product_ids: Iterable[str], limit: int
    ) -> dict[str, list[ReviewObservation]]:
        """Return the newest review observations of each product that has any, newest first."""
        reviews: dict[str, list[ReviewObservation]] = {}
        for product_id, at, rating, count in self._newest(self._newest_reviews, product_ids, limit):
            reviews.setdefault(product_id, []).append(ReviewObservation(at, rating, count))
        return reviews

    def _newest(
        self, statement: Select[Any], product_ids: Iterable[str], limit: int
    ) -> Sequence[Any]:
        parameters = {"ids": self.database.texts(set(product_ids)), "limit": limit}
        with self.database.reading() as connection:
            return connection.execute(statement, parameters).all()

    def probe(self) -> None:
        """Raise while no product could be recorded: record a test product and take it back."""
        self._recording.rehearse()

    def describe(self) -> str:
        """Return one line for people about the ledger: address and number of products.

        It counts ``MAX_COUNTED`` rows at most, so that it ends in time for any ledger.
        """
        some = select(products.c.deleted).limit(MAX_COUNTED + 1).subquery()
        query = select(func.count(), func.count().filter(~some.c.deleted)).select_from(some)
        with self.database.reading() as connection:
            row_count, product_count = connection.execute(query).one()
        is_complete = row_count <= MAX_COUNTED
        size = f"{product_count} products" if is_complete else f"over {MAX_COUNTED} rows"
        return f"{self.database.address}, {size}"

    def close(self) -> None:
        """Close all connections."""
        self.database.close()

    def _keep_first(self, connection: Connection, values: Mapping[str, str]) -> None:
        statement = self.database.insert(ledger_meta).on_conflict_do_nothing()
        connection.execute(
            statement, [{"key": key, "value": value} for key, value in values.items()]
        )

    @staticmethod
    def _read_meta(connection: Connection) -> dict[str, str]:
        return {row.key: row.value for row in connection.execute(select(ledger_meta))}
