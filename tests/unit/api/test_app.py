"""The order service over HTTP on loopback: responses, refusals, keys, outages."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from product_consumer.api.app import create_app
from product_consumer.api.server import ApiServer
from product_consumer.database.connection import Database
from product_consumer.errors import ConfigurationError, LedgerUnavailable
from product_consumer.orders.ledger import OrderLedger
from product_consumer.orders.models import RejectedOrder
from product_consumer.quality.models import QualityFlag
from product_consumer.quality.store import QualityStore
from product_consumer.streams.results import ResultStore
from tests.support.backends import free_port
from tests.support.order_factories import order

DAY = datetime(2024, 12, 13, 10, tzinfo=UTC)
NEXT_DAY = datetime(2024, 12, 14, 23, 59, tzinfo=UTC)


class Api:
    """A service with a few orders, and a client of it."""

    def __init__(self, url: str, ledger: OrderLedger) -> None:
        self.url = url
        self.ledger = ledger

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(self.url + path, timeout=10, **options)

    def json(self, path: str) -> Any:
        response = self.get(path)
        assert response.status_code == 200, response.text
        return response.json()


def open_ledger(directory: Path) -> OrderLedger:
    ledger = OrderLedger(
        Database(f"sqlite:///{directory / 'ledger.db'}", timeout_seconds=5.0, connections=12)
    )
    ledger.setup()
    return ledger


def fill(ledger: OrderLedger) -> None:
    ledger.record(
        [
            order(user_id="U5678", value_minor=9999, ordered_at=DAY),
            order(user_id="U5678", value_minor=9999, ordered_at=NEXT_DAY),
            order(user_id="U1", value_minor=9998, ordered_at=DAY),
            order(user_id="U1", value_minor=1, ordered_at=DAY),
            order(user_id="U1", value_minor=1, ordered_at=DAY),
            order(user_id="a/b c", value_minor=5, ordered_at=DAY),
            order(user_id="abroad", value_minor=5000, currency="VND", ordered_at=DAY),
            order(user_id="U1", value_minor=7, currency="EUR", ordered_at=DAY),
        ]
    )
    ledger.add_rejected([RejectedOrder("m1", None, "json_invalid", "not JSON", DAY)])


@contextmanager
def serving(ledger: OrderLedger, **options: Any) -> Iterator[Api]:
    store = QualityStore(ledger.database)
    store.setup()
    store.add([QualityFlag("order", "ORD1", "total_zero", "everything is free", "rule", DAY)])
    results = ResultStore(ledger.database)
    results.setup()
    # Set: no client here waits for a result.
    stopping = threading.Event()
    stopping.set()
    every: dict[str, Any] = {"default_currency": "USD", "quality": store, "results": results}
    every |= {"stopping": stopping} | options
    app = create_app(ledger, **every)
    server = ApiServer(app, host="127.0.0.1", port=0, has_key=False)
    server.start()
    try:
        yield Api(f"http://127.0.0.1:{server.port}", ledger)
    finally:
        server.stop()


def bare_app(ledger: OrderLedger) -> FastAPI:
    return create_app(
        ledger,
        default_currency="USD",
        quality=QualityStore(ledger.database),
        results=ResultStore(ledger.database),
    )


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with closing(open_ledger(tmp_path_factory.mktemp("service"))) as ledger:
        fill(ledger)
        with serving(ledger) as running:
            yield running


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Start a service of one's own: ``with start(api_key=...) as api``."""
    with closing(open_ledger(tmp_path)) as ledger:
        fill(ledger)
        yield lambda **options: serving(ledger, **options)


def test_a_users_stats_are_the_documented_response(api: Api) -> None:
    assert api.json("/users/U5678/stats") == {
        "user_id": "U5678",
        "order_count": 2,
        "total_spend": "199.98",
        "currency": "USD",
    }


def test_other_currencies_stand_beside_the_main_one(api: Api) -> None:
    assert api.json("/users/U1/stats") == {
        "user_id": "U1",
        "order_count": 3,
        "total_spend": "100.00",
        "currency": "USD",
        "other_currencies": [{"currency": "EUR", "order_count": 1, "total_spend": "0.07"}],
    }


def test_a_user_of_another_currency_has_zero_in_the_main_one(api: Api) -> None:
    response = api.json("/users/abroad/stats")

    assert (response["order_count"], response["total_spend"]) == (0, "0.00")
    assert response["other_currencies"] == [
        {"currency": "VND", "order_count": 1, "total_spend": "5000"}
    ]


@pytest.mark.parametrize(
    ("days", "count", "spend"),
    [
        ("from=2024-12-13&to=2024-12-13", 1, "99.99"),
        ("from=2024-12-13&to=2024-12-14", 2, "199.98"),
        ("from=2024-12-14", 1, "99.99"),
        ("to=2024-12-12", 0, "0.00"),
    ],
)
def test_a_users_stats_of_some_days_include_both_ends(
    api: Api, days: str, count: int, spend: str
) -> None:
    response = api.json(f"/users/U5678/stats?{days}")

    assert (response["order_count"], response["total_spend"]) == (count, spend)


@pytest.mark.parametrize("path", ["/users/a%2Fb%20c/stats", "/users/a/b%20c/stats"])
def test_an_id_with_a_slash_is_found(api: Api, path: str) -> None:
    assert api.json(path)["user_id"] == "a/b c"


def test_an_id_is_cleaned_as_those_of_orders_are(api: Api) -> None:
    assert api.json("/users/u%205678/stats")["user_id"] == "U5678"


def test_global_stats_are_the_documented_response(api: Api) -> None:
    response = api.json("/stats/global")
    others = response.pop("other_currencies")

    assert response == {"total_orders": 6, "total_revenue": "300.03", "currency": "USD"}
    assert [amount["currency"] for amount in others] == ["EUR", "VND"]


def test_the_top_users_come_in_order_of_spend(api: Api) -> None:
    assert api.json("/stats/top?by=spend&n=2") == [
        {"user_id": "U5678", "order_count": 2, "total_spend": "199.98", "currency": "USD"},
        {"user_id": "U1", "order_count": 3, "total_spend": "100.00", "currency": "USD"},
    ]


def test_the_top_users_come_in_order_of_orders(api: Api) -> None:
    users = [user["user_id"] for user in api.json("/stats/top?by=orders")]

    assert users == ["U1", "U5678", "a/b c"]


def test_the_top_users_of_another_currency_are_asked_for_by_code(api: Api) -> None:
    [first] = api.json("/stats/top?currency=VND")

    assert (first["user_id"], first["total_spend"], first["currency"]) == ("abroad", "5000", "VND")


def test_days_come_in_order_with_both_ends(api: Api) -> None:
    assert api.json("/stats/daily?from=2024-12-13&to=2024-12-14") == [
        {"day": "2024-12-13", "order_count": 5, "total_spend": "200.04"},
        {"day": "2024-12-14", "order_count": 1, "total_spend": "99.99"},
    ]
    assert len(api.json("/stats/daily?from=2024-12-14&to=2024-12-31")) == 1
    assert len(api.json("/stats/daily?from=&to=")) == 2


def test_rejected_orders_are_listed_with_their_reason(api: Api) -> None:
    assert api.json("/orders/rejected") == [
        {
            "message_id": "m1",
            "order_id": None,
            "reason": "json_invalid",
            "detail": "not JSON",
            "at": "2024-12-13T10:00:00Z",
        }
    ]


def test_quality_flags_are_listed(api: Api) -> None:
    flag = {
        "subject": "order",
        "id": "ORD1",
        "code": "total_zero",
        "reason": "everything is free",
        "source": "rule",
        "at": "2024-12-13T10:00:00Z",
    }

    assert api.json("/quality") == [flag]
    assert api.json("/quality?subject=order&id=ORD1&code=total_zero") == [flag]
    assert api.json("/quality?subject=product") == []


def test_no_money_is_a_number(api: Api) -> None:
    for path in ("/users/U1/stats", "/stats/global", "/stats/top", "/stats/daily"):
        assert "." not in "".join(
            str(value) for value in _leaves(api.json(path)) if not isinstance(value, str)
        )


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        yield value
        return
    for inner in value:
        yield from _leaves(inner)


@pytest.mark.parametrize(
    "user_id",
    ["nobody", "a:b", "*", "u?", "[U]", "%00", "%0A", "%F0%9F%92%A9", "' OR 1=1 --", "%ff", "%20"],
)
def test_an_unknown_user_is_not_found(api: Api, user_id: str) -> None:
    response = api.get(f"/users/{user_id}/stats")

    assert response.status_code == 404
    assert response.json()["error"] in ("user_unknown", "path_unknown")


@pytest.mark.parametrize(
    "query",
    [
        "/stats/top?n=1000000000",
        "/stats/top?n=0",
        "/stats/top?n=-1",
        "/stats/top?n=NaN",
        "/stats/top?n=1e3",
        "/stats/top?n=",
        "/stats/top?n=" + "9" * 5000,
        "/stats/top?by=id in ['x'] or 1",
        "/stats/top?limit=5",
        "/stats/top?currency=usd",
        "/stats/top?currency=' or 1=1",
        "/stats/daily?from=2024-12-31&to=2024-12-01",
        "/stats/daily?from=0001-01-01&to=9999-12-31",
        "/stats/daily?from=0",
        "/stats/daily?from=1733999999",
        "/stats/daily?from=2024-02-30",
        "/stats/daily?from=2024-12-01T00:00:00",
        "/stats/daily?to=today",
        "/users/U5678/stats?from=x",
        "/users/U5678/stats?form=2024-12-01",
        "/stats/global?from=2024-12-01",
        "/orders/rejected?limit=1001",
        "/quality?code=%00",
        "/quality?id=%00",
        "/quality?subject=user",
    ],
)
def test_a_bad_query_is_refused_with_a_reason(api: Api, query: str) -> None:
    response = api.get(query)

    assert response.status_code == 422
    assert response.json()["error"] == "query_invalid"
    assert 5 < len(response.json()["detail"]) < 300


def test_a_query_of_a_megabyte_is_refused(api: Api) -> None:
    response = api.get("/stats/top?by=" + "x" * 1_000_000)

    assert (response.status_code, response.json()["error"]) == (422, "query_too_long")


def test_an_id_of_a_megabyte_is_not_found(api: Api) -> None:
    assert api.get(f"/users/{'x' * 1_000_000}/stats").status_code == 404


def test_a_body_of_a_megabyte_is_refused(api: Api) -> None:
    response = api.get("/stats/top", data=b"x" * 1_000_000)

    assert (response.status_code, response.json()["error"]) == (413, "body_too_large")


def test_a_small_body_is_ignored(api: Api) -> None:
    assert api.get("/stats/top", json={"n": 5}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/stats/global", 405), ("DELETE", "/users/U1/stats", 405), ("GET", "/stats", 404)],
)
def test_unknown_paths_and_methods_are_refused(
    api: Api, method: str, path: str, status: int
) -> None:
    response = requests.request(method, api.url + path, timeout=10)

    assert response.status_code == status
    assert response.json().keys() == {"error", "detail"}


def test_responses_are_not_cached_and_name_no_server(api: Api) -> None:
    response = api.get("/stats/nothing")

    assert response.headers["Cache-Control"] == "no-store"
    assert "server" not in response.headers


def test_health_and_readiness(api: Api) -> None:
    assert api.json("/healthz") == {"status": "ok"}
    assert api.json("/readyz") == {"status": "ok"}


PATHS = (
    "/users/{user_id}/stats",
    "/stats/global",
    "/stats/top",
    "/stats/daily",
    "/orders/rejected",
    "/quality",
    "/results",
    "/results/{correlation_id}",
    "/healthz",
    "/readyz",
)
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.mark.parametrize(
    ("path", "mode"),
    [(path, GenerationMode.POSITIVE) for path in PATHS]
    # The other paths take nothing that could be wrong.
    + [(path, GenerationMode.NEGATIVE) for path in (*PATHS[:1], *PATHS[2:8])],
)
def test_generated_requests_are_answered_as_the_schema_says(
    api: Api, path: str, mode: GenerationMode
) -> None:
    operation = schemathesis.openapi.from_url(f"{api.url}/openapi.json")[path]["GET"]

    @given(operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=30,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def check(case: Any) -> None:
        case.validate_response(case.call(timeout=10), checks=CHECKS)

    check()


def test_the_schema_names_every_path(api: Api) -> None:
    assert set(api.json("/openapi.json")["paths"]) == set(PATHS)


@pytest.mark.parametrize("key", [None, "", "wrong", "\xff", "secre", "secret2"])
def test_without_the_right_key_nothing_is_answered(start: Callable[..., Any], key: Any) -> None:
    headers = {} if key is None else {"X-API-Key": key.encode("latin-1")}
    with start(api_key="secret") as api:
        for path in ("/stats/global", "/users/nobody/stats", "/openapi.json", "/stats/top?n=x"):
            response = api.get(path, headers=headers)
            assert (response.status_code, response.json()["error"]) == (401, "key_invalid")


def test_the_key_opens_the_service_and_health_needs_none(start: Callable[..., Any]) -> None:
    with start(api_key="secret") as api:
        assert api.get("/stats/global", headers={"X-API-Key": "secret"}).status_code == 200
        assert api.get("/healthz").status_code == 200
        assert api.get("/readyz").status_code == 200


def test_while_the_ledger_is_down_the_response_is_503_without_details(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise LedgerUnavailable("ledger", "host db-7 refused postgres")

    with start() as api:
        for name in ("global_stats", "ping"):
            monkeypatch.setattr(api.ledger, name, fail)
        response, ready = api.get("/stats/global"), api.get("/readyz")

    assert (response.status_code, response.headers["Retry-After"]) == (503, "5")
    assert "db-7" not in response.text
    assert (ready.status_code, ready.json()) == (503, {"status": "ledger"})


def test_postgresql_answers_the_same(postgres_url: str) -> None:
    database = Database(postgres_url, timeout_seconds=5.0, connections=4)
    with closing(OrderLedger(database)) as ledger:
        ledger.setup()
        fill(ledger)
        with serving(ledger) as api:
            assert api.json("/quality?id=ORD1") == api.json("/quality")
            assert api.get("/quality?id=%00").status_code == 422
            assert api.get("/users/%00/stats").status_code == 404
            assert api.json("/stats/top?n=1")[0]["user_id"] == "U5678"
            assert api.json("/stats/daily?from=2024-12-14")[0]["total_spend"] == "99.99"


def test_without_a_default_currency_the_main_one_has_most_orders(
    start: Callable[..., Any],
) -> None:
    with start(default_currency="") as api:
        assert api.json("/stats/global")["currency"] == "USD"
        assert api.json("/users/abroad/stats")["currency"] == "VND"
        assert api.json("/stats/top?n=1")[0]["currency"] == "USD"


def test_an_empty_ledger_has_answers(tmp_path: Path) -> None:
    with closing(open_ledger(tmp_path)) as ledger, serving(ledger) as api:
        assert api.json("/stats/global") == {
            "total_orders": 0,
            "total_revenue": "0.00",
            "currency": "USD",
        }
        assert api.json("/stats/top") == api.json("/stats/daily") == []


def test_a_port_in_use_is_a_setting_that_cannot_work(tmp_path: Path) -> None:
    with socket.socket() as taken, closing(open_ledger(tmp_path)) as ledger:
        taken.bind(("127.0.0.1", free_port()))
        taken.listen()
        app = bare_app(ledger)
        server = ApiServer(app, host="127.0.0.1", port=taken.getsockname()[1], has_key=False)
        with pytest.raises(ConfigurationError) as refused:
            server.start()

    assert refused.value.setting == "API_PORT"


def test_a_network_address_without_a_key_is_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(open_ledger(tmp_path)) as ledger:
        app = bare_app(ledger)
        server = ApiServer(app, host="127.0.0.2", port=0, has_key=False)
        server.start()
        server.stop()

    assert "asks for no API_KEY" in caplog.text
    assert server.has_ended
