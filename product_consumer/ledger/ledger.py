"""The ledger: SQL tables that decide which message is newest and hold everything else can be
rebuilt from.

Recording a batch (``record``) does four things: a compare-and-set by ``Version`` that gives
every accepted change the product's next revision, the history rows, the mark ``check_after``, and
reading the current rows back. The stores are then given those current rows, never the messages, so
a message that lost the comparison re-drives the newest state instead of being acknowledged blindly.
Checking first and writing later would let two machines overwrite each other; the mark is set before
any store is written, so a crash between the two stays visible.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Select, Table, bindparam, func, literal_column, select, true

from product_consumer.database.connection import Database, open_database
from product_consumer.errors import ConfigurationError, ProductConsumerError, RejectMessage
from product_consumer.ledger.recording import Recording
from product_consumer.ledger.rows import (
    KNOWN_COLUMNS,
    LookedUp,
    ProductChange,
    RowReader,
    as_known,
    unpack_embeddings,
)
from product_consumer.ledger.tables import (
    LEDGER_SCHEMA_VERSION,
    ledger_meta,
    metadata,
    price_history,
    products,
    review_history,
)
from product_consumer.models import (
    Embedding,
    PriceObservation,
    Product,
    ProductRow,
    ReviewObservation,
    StoreIdentity,
)
from product_consumer.settings import Settings
from product_consumer.vectors import unpack

MAX_COUNTED = 100_000
"""A tenth of a second for a database; counting 10 million would take longer than it may."""


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """What a batch left behind: the current row of every product in it, and the changes refused on
    their own, by position.
    """

    rows: Mapping[str, ProductRow]
    failures: Mapping[int, ProductConsumerError] = field(default_factory=dict)


def open_ledger(settings: Settings, database: Database | None = None) -> "Ledger":
    """Return the ledger in a database, by default the one that the settings name; connects to
    nothing yet.
    """
    horizon_seconds = settings.repair_horizon_seconds
    return Ledger(database or open_database(settings), repair_horizon_seconds=horizon_seconds)


class Ledger:
    """Thread-safe. Every method but ``close`` may raise ``LedgerUnavailable`` or
    ``ConfigurationError``.
    """

    def __init__(self, database: Database, *, repair_horizon_seconds: int) -> None:
        self.database = database
        wanted = database.among(products.c.id, "ids")
        self._known = select(*KNOWN_COLUMNS).where(wanted)
        self._revisions = select(products.c.id, products.c.revision).where(wanted)
        self._rows = RowReader(database)
        self._image_embeddings = _image_embeddings(database)
        self._newest_prices = _newest(database, price_history)
        self._newest_reviews = _newest(database, review_history)
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
            metadata.create_all(connection)
            self._keep_first(connection, first)
            found = self._read_meta(connection)
        if int(found["schema_version"]) > LEDGER_SCHEMA_VERSION:
            raise ConfigurationError(
                "DATABASE_URL",
                f"the ledger has schema {found['schema_version']}, this program knows "
                f"{LEDGER_SCHEMA_VERSION}: upgrade it",
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

    def identity(self) -> StoreIdentity:
        """Return whose rows a store of this ledger holds.

        Raises ``ConfigurationError`` while no model is claimed, which a worker does at its start.
        """
        found = self.meta()
        if "model_id" not in found:
            raise ConfigurationError(
                "DATABASE_URL", "the ledger is empty: no worker has used it yet"
            )
        return StoreIdentity(found["ledger_id"], found["model_id"], int(found["dimension"]))

    def look_up(self, candidates: Sequence[Product]) -> list[LookedUp]:
        """Return what is known of each product, in order, compared with the candidate."""
        ids = self.database.texts({product.id for product in candidates})
        with self.database.reading() as connection:
            found = connection.execute(self._known, {"ids": ids}).all()
        rows = {row.id: row for row in found}
        embeddings = unpack_embeddings(found)
        return [
            as_known(row, embeddings.get(product.id), product.version, self._model_id)
            if (row := rows.get(product.id)) is not None
            else LookedUp()
            for product in candidates
        ]

    def image_embeddings(self, sha256s: Iterable[str]) -> dict[str, Embedding]:
        """Return the image vectors that this model made of pictures with these digests."""
        parameters = {"sha256s": self.database.texts(set(sha256s)), "model_id": self._model_id}
        with self.database.reading() as connection:
            found = connection.execute(self._image_embeddings, parameters).all()
        packed = {sha256: vector for sha256, vector in found if vector is not None}
        return dict(zip(packed, unpack(list(packed.values())), strict=True))

    def record(self, changes: Sequence[ProductChange]) -> BatchRecord:
        """Decide, append history, mark, and read the current rows back: see ``ledger_recording``.

        A change that the database refuses for its own data is reported in ``failures`` and leaves
        the others untouched.
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
            found = connection.execute(self._revisions, {"ids": ids})
            return {row.id: row.revision for row in found}

    def rows(self, product_ids: Iterable[str]) -> dict[str, ProductRow]:
        """Return the current row of each product that exists, tombstones included."""
        with self.database.reading() as connection:
            return self._rows(connection, set(product_ids))

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
        found: dict[str, list[PriceObservation]] = {}
        for product_id, at, minor, currency in self._newest(
            self._newest_prices, product_ids, limit
        ):
            found.setdefault(product_id, []).append(PriceObservation(at, minor, currency))
        return found

    def recent_reviews(
        self, product_ids: Iterable[str], limit: int
    ) -> dict[str, list[ReviewObservation]]:
        """Return the newest review observations of each product that has any, newest first."""
        found: dict[str, list[ReviewObservation]] = {}
        for product_id, at, rating, count in self._newest(self._newest_reviews, product_ids, limit):
            found.setdefault(product_id, []).append(ReviewObservation(at, rating, count))
        return found

    def _newest(
        self, statement: Select[Any], product_ids: Iterable[str], limit: int
    ) -> Sequence[Any]:
        parameters = {"ids": self.database.texts(set(product_ids)), "limit": limit}
        with self.database.reading() as connection:
            return connection.execute(statement, parameters).all()

    def ping(self) -> None:
        """Raise while products cannot be read; reads one row at most, however large the ledger."""
        with self.database.reading() as connection:
            connection.execute(select(products.c.id).limit(1)).all()

    def describe(self) -> str:
        """Return one line for people on what was reached: address and number of products.

        ``MAX_COUNTED`` rows are counted at most, so that it ends in time for any ledger.
        """
        some = select(products.c.deleted).limit(MAX_COUNTED + 1).subquery()
        query = select(func.count(), func.count().filter(~some.c.deleted)).select_from(some)
        with self.database.reading() as connection:
            rows, shown = connection.execute(query).one()
        count = f"{shown} products" if rows <= MAX_COUNTED else f"over {MAX_COUNTED} rows"
        return f"{self.database.address}, {count}"

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


def _image_embeddings(database: Database) -> Select[Any]:
    wanted = database.table_of("sha256s")
    # One row of each: a placeholder picture may stand for any number of products.
    packed = (
        select(products.c.image_embedding)
        .where(products.c.image_sha256 == wanted.c.value)
        .where(products.c.model_id == bindparam("model_id"))
        .limit(1)
        .scalar_subquery()
    )
    return select(wanted.c.value, packed)


def _newest(database: Database, table: Table) -> Select[Any]:
    """The last ``limit`` rows of each product in a history, newest first; the older ones, however
    many, are not read.
    """
    wanted, last = database.table_of("ids"), table.alias("last")

    def newest(*shown: Any) -> Select[Any]:
        of_one = select(*shown).select_from(last).where(last.c.product_id == wanted.c.value)
        return of_one.order_by(*_newest_first(last)).limit(bindparam("limit"))

    if database.is_sqlite:
        # It has no LATERAL, but an id for every row.
        found: Any = table
        row_ids = newest(literal_column("rowid")).correlate(wanted)
        is_newest: Any = literal_column(f"{table.name}.rowid").in_(row_ids)
    else:
        found, is_newest = newest(last).lateral(), true()
    joined = wanted.join(found, is_newest)
    return select(*found.c).select_from(joined).order_by(found.c.product_id, *_newest_first(found))


def _newest_first(history: Any) -> list[Any]:
    """The order of the histories' own index, backwards."""
    return [column.desc() for column in history.c if column.name != "product_id"]
