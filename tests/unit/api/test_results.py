"""Results over HTTP: found at once or waited for, whatever the id is, and nobody blocks another."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import quote

import pytest
import requests

from product_consumer.api.app import create_app
from product_consumer.api.server import ApiServer
from product_consumer.database.connection import Database
from product_consumer.errors import LedgerUnavailable
from product_consumer.orders.ledger import OrderLedger
from product_consumer.quality.store import QualityStore
from product_consumer.streams.results import DONE, REJECTED, ResultStore, StageResult

AT = datetime(2026, 11, 21, 14, 30, tzinfo=UTC)


class Api:
    """A service of results, and a client of it."""

    def __init__(self, url: str, store: ResultStore, stopping: threading.Event) -> None:
        self.url = url
        self.store = store
        self.stopping = stopping

    def get(self, path: str) -> requests.Response:
        return requests.get(self.url + path, timeout=20)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with closing(Database(url, timeout_seconds=5.0, connections=12)) as database:
        ledger, quality, store = (
            OrderLedger(database),
            QualityStore(database),
            ResultStore(database),
        )
        for tables in (ledger, quality, store):
            tables.setup()
        stopping = threading.Event()
        app = create_app(
            ledger, default_currency="USD", quality=quality, results=store, stopping=stopping
        )
        server = ApiServer(app, host="127.0.0.1", port=0, has_key=False)
        server.start()
        try:
            yield Api(f"http://127.0.0.1:{server.port}", store, stopping)
        finally:
            server.stop()


def result(correlation_id: str = "c-1", /, **changes: Any) -> StageResult:
    value = json.dumps({"kind": "classification", "label": "mug"})
    fields: dict[str, Any] = {
        "correlation_id": correlation_id,
        "stage": "classify",
        "kind": "classification",
        "status": DONE,
        "result": value,
        "reason": None,
        "model": "tiny",
        "created_at": AT,
    }
    return StageResult(**(fields | changes))


def test_the_results_of_a_request_are_the_documented_response(api: Api) -> None:
    api.store.record([result()])

    assert api.get("/results/c-1").json() == {
        "correlation_id": "c-1",
        "results": [
            {
                "stage": "classify",
                "kind": "classification",
                "status": "done",
                "result": {"kind": "classification", "label": "mug"},
                "reason": None,
                "model": "tiny",
                "created_at": "2026-11-21T14:30:00Z",
            }
        ],
    }


def test_a_rejected_request_tells_its_reason(api: Api) -> None:
    rejected: dict[str, Any] = {
        "status": REJECTED,
        "result": None,
        "reason": "image_corrupt",
        "model": None,
    }
    api.store.record([result(**rejected)])

    [told] = api.get("/results/c-1").json()["results"]

    assert (told["status"], told["result"], told["reason"]) == ("rejected", None, "image_corrupt")


def test_a_request_without_a_result_is_404(api: Api) -> None:
    answer = api.get("/results/nothing?wait=0.2")

    assert (answer.status_code, answer.json()["error"]) == (404, "result_unknown")


@pytest.mark.parametrize("wait", ["-1", "31", "nan", "inf", "x"])
def test_a_wait_that_is_no_time_is_refused(api: Api, wait: str) -> None:
    assert api.get(f"/results/c-1?wait={wait}").status_code == 422


@pytest.mark.parametrize(
    "correlation_id",
    ["a/b/c", "../../etc/passwd", "a b?c#d%", "\x00", "é日本", "x" * 4000, "\n", "c-1/"],
)
def test_any_text_is_a_correlation_id(api: Api, correlation_id: str) -> None:
    path = f"/results/{quote(correlation_id, safe='')}"
    assert api.get(path).status_code == 404

    api.store.record([result(correlation_id)])

    answer = api.get(path)
    assert answer.status_code == 200
    assert answer.json()["correlation_id"] == correlation_id


def test_a_hundred_clients_wait_and_none_blocks_another(api: Api) -> None:
    ids = [f"c-{number}" for number in range(100)]
    with ThreadPoolExecutor(100) as clients:
        waiting = [clients.submit(api.get, f"/results/{name}?wait=15") for name in ids]
        started = monotonic()
        # All threads of the service are free for others meanwhile.
        while monotonic() - started < 0.5:
            assert api.get("/stats/global").status_code == 200
        assert not any(future.done() for future in waiting)
        api.store.record([result(name) for name in ids])
        answers = [future.result() for future in waiting]

    assert [answer.json()["correlation_id"] for answer in answers] == ids
    assert monotonic() - started < 12


def test_a_stop_ends_the_waits(api: Api) -> None:
    with ThreadPoolExecutor(1) as clients:
        waiting = clients.submit(api.get, "/results/c-1?wait=30")
        api.get("/results/c-2?wait=0.2")
        api.stopping.set()
        assert waiting.result(timeout=10).status_code == 404


def test_an_outage_ends_a_wait_with_503(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise LedgerUnavailable("ledger", "host db-7 refused")

    monkeypatch.setattr(api.store, "present", fail)

    answer = api.get("/results/c-1?wait=10")

    assert answer.status_code == 503
    assert "db-7" not in answer.text


def test_the_latest_results_are_listed_and_chosen(api: Api) -> None:
    api.store.record(
        [
            result("a"),
            result("b", created_at=AT + timedelta(seconds=1), kind="anomaly", stage="anomaly"),
            result("c", created_at=AT + timedelta(seconds=2), status=REJECTED, result=None),
        ]
    )

    def ids(query: str) -> list[str]:
        return [row["correlation_id"] for row in api.get(f"/results{query}").json()]

    assert ids("") == ["c", "b", "a"]
    assert ids("?limit=1") == ["c"]
    assert ids("?status=done") == ["b", "a"]
    assert ids("?status=&kind=anomaly") == ["b"]
    assert api.get("/results?status=open").status_code == 422
    assert api.get("/results?kind=%00").status_code == 422
