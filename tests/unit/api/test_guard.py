"""What every request passes first: the key, and the limits of query and body."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from product_consumer.api import guard
from product_consumer.api.guard import MAX_BODY_BYTES, MAX_QUERY_BYTES, HttpGuard, error_response

KEY = "s3cret"
Headers = list[tuple[bytes, bytes]]


class FakeApp:
    """Answers 200 to whatever it is handed, and remembers it."""

    def __init__(self) -> None:
        self.handed: list[Any] = []

    async def __call__(self, scope: Any, _receive: Any, send: Any) -> None:
        self.handed.append(scope)
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})


@pytest.fixture
def app() -> FakeApp:
    return FakeApp()


def request(path: str = "/stats/global", query: bytes = b"", headers: Headers = []) -> Any:  # noqa: B006
    return {"type": "http", "path": path, "query_string": query, "headers": headers}


def key(value: str) -> Headers:
    return [(b"x-api-key", value.encode())]


def status_of(
    app: FakeApp,
    scope: Any,
    body: Iterable[bytes] = (),
    *,
    api_key: str | None = None,
    hangs: bool = False,
) -> int:
    """Hand one request to a guarded app; return the status of the answer."""
    return int(answer_to(app, scope, body, api_key=api_key, hangs=hangs)["status"])


def answer_to(
    app: FakeApp,
    scope: Any,
    body: Iterable[bytes] = (),
    *,
    api_key: str | None = None,
    hangs: bool = False,
) -> dict[str, Any]:
    chunks = list(body)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not chunks and hangs:
            await asyncio.Event().wait()
        chunk = chunks.pop(0) if chunks else b""
        return {"type": "http.request", "body": chunk, "more_body": bool(chunks) or hangs}

    async def send(event: dict[str, Any]) -> None:
        sent.append(event)

    asyncio.run(HttpGuard(app, api_key=api_key)(scope, receive, send))
    return sent[0]


@pytest.mark.parametrize("headers", [[], key("anything")])
def test_without_a_key_everyone_is_let_in(app: FakeApp, headers: Headers) -> None:
    scope = request(headers=headers)

    assert status_of(app, scope) == 200
    assert app.handed == [scope]


@pytest.mark.parametrize(
    "headers",
    [[], key(""), key("S3CRET"), key(KEY + "x"), key(KEY) * 2, key("wrong") + key(KEY), key("é")],
)
def test_without_the_right_key_nothing_reaches_the_app(app: FakeApp, headers: Headers) -> None:
    answer = answer_to(app, request(headers=headers), api_key=KEY)

    assert (answer["status"], app.handed) == (401, [])
    assert dict(answer["headers"])[b"www-authenticate"] == b"X-API-Key"


def test_the_right_key_opens(app: FakeApp) -> None:
    assert status_of(app, request(headers=key(KEY)), api_key=KEY) == 200


@pytest.mark.parametrize(
    ("path", "status"), [("/healthz", 200), ("/readyz", 200), ("/healthz/x", 401), ("/docs", 401)]
)
def test_only_health_needs_no_key(app: FakeApp, path: str, status: int) -> None:
    assert status_of(app, request(path), api_key=KEY) == status


@pytest.mark.parametrize(("length", "status"), [(MAX_QUERY_BYTES, 200), (MAX_QUERY_BYTES + 1, 422)])
def test_a_query_has_a_limit(app: FakeApp, length: int, status: int) -> None:
    assert status_of(app, request(query=b"x" * length)) == status


def test_the_key_is_asked_for_before_anything_else_is_told(app: FakeApp) -> None:
    assert status_of(app, request(query=b"x" * 10_000), api_key=KEY) == 401


@pytest.mark.parametrize("header", [b"content-length", b"transfer-encoding"])
@pytest.mark.parametrize(("length", "status"), [(MAX_BODY_BYTES, 200), (MAX_BODY_BYTES + 1, 413)])
def test_a_body_is_dropped_up_to_a_limit(
    app: FakeApp, header: bytes, length: int, status: int
) -> None:
    body = [b"x" * (length // 2), b"x" * (length - length // 2)]

    assert status_of(app, request(headers=[(header, b"1")]), body) == status


def test_a_body_that_never_ends_is_read_no_further(
    app: FakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "_DRAIN_SECONDS", 0.1)
    scope = request(headers=[(b"content-length", b"1")])

    assert status_of(app, scope, [b"x"], hangs=True) == 413
    assert app.handed == []


def test_what_is_no_request_is_handed_on(app: FakeApp) -> None:
    scope = {"type": "lifespan"}
    asyncio.run(HttpGuard(app, api_key=KEY)(scope, None, None))

    assert app.handed == [scope]


def test_a_refusal_is_not_cached_and_says_why() -> None:
    answer = error_response(422, "query_too_long", "the query is longer than 1 byte")

    assert bytes(answer.body) == (
        b'{"error":"query_too_long","detail":"the query is longer than 1 byte"}'
    )
    assert answer.headers["cache-control"] == "no-store"
