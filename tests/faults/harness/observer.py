"""A stranger who looks at ledger and search all the time and writes down the revisions."""

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
    """Note ``observe`` before and ``observed`` after each look, until stopped."""
    engine = sqlalchemy.create_engine(database_url)
    calls = itertools.count(1)
    while not stopping.wait(PAUSE_SECONDS):
        # Before the first worker has made them there are no tables and no index.
        with contextlib.suppress(Exception):
            call = next(calls)
            history.note("observe", call=call, source="ledger")
            shown = _ledger_revisions(engine)
            history.note("observed", call=call, source="ledger", revisions=shown)
            call = next(calls)
            history.note("observe", call=call, source="elasticsearch")
            shown = _search_revisions(search, index, sorted(shown)[:_MOST_IDS])
            history.note("observed", call=call, source="elasticsearch", revisions=shown)
    engine.dispose()


def _ledger_revisions(engine: sqlalchemy.Engine) -> dict[str, int]:
    with engine.connect() as connection:
        found = connection.execute(sqlalchemy.text("SELECT id, revision FROM products"))
        return {row.id: row.revision for row in found}


def _search_revisions(client: Elasticsearch, index: str, ids: list[str]) -> dict[str, int]:
    # A real-time read: what a search shows may be a second older.
    if not ids:
        return {}
    found = client.mget(index=index, ids=ids, source=False)["docs"]
    return {each["_id"]: each["_version"] for each in found if each.get("found")}
