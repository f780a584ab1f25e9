"""Reads the revisions in ledger and search all the time, and adds them to the history."""

import contextlib
import itertools
import threading

import sqlalchemy
from elasticsearch import Elasticsearch

from tests.faults.harness.recording import History

PAUSE_SECONDS = 0.1
_MOST_IDS = 500


def observe(
    stopping: threading.Event,
    history: History,
    database_url: str,
    search: Elasticsearch,
    index: str,
) -> None:
    """Add ``observe`` before and ``observed`` after each read, until stopped."""
    engine = sqlalchemy.create_engine(database_url)
    calls = itertools.count(1)
    while not stopping.wait(PAUSE_SECONDS):
        # The first worker creates the tables and the index; until then a read fails.
        with contextlib.suppress(Exception):
            call = next(calls)
            history.add("observe", call=call, source="ledger")
            revisions = _ledger_revisions(engine)
            history.add("observed", call=call, source="ledger", revisions=revisions)
            call = next(calls)
            history.add("observe", call=call, source="elasticsearch")
            revisions = _search_revisions(search, index, sorted(revisions)[:_MOST_IDS])
            history.add("observed", call=call, source="elasticsearch", revisions=revisions)
    engine.dispose()


def _ledger_revisions(engine: sqlalchemy.Engine) -> dict[str, int]:
    with engine.connect() as connection:
        rows = connection.execute(sqlalchemy.text("SELECT id, revision FROM products"))
        return {row.id: row.revision for row in rows}


def _search_revisions(client: Elasticsearch, index: str, ids: list[str]) -> dict[str, int]:
    # A read by id is real-time; a search may return rows that are a second older.
    if not ids:
        return {}
    documents = client.mget(index=index, ids=ids, source=False)["docs"]
    return {row["_id"]: row["_version"] for row in documents if row.get("found")}
