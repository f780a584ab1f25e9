"""Checks of every request before it is routed: the key, and the sizes of query and body."""

import asyncio
import hmac
from typing import Any

from fastapi.responses import JSONResponse

MAX_QUERY_BYTES = 8192
MAX_BODY_BYTES = 64 * 1024
"""No path takes a body; a client library may send a small one all the same."""
_DRAIN_BYTES = 4 * 1024 * 1024
_DRAIN_SECONDS = 5.0
_OPEN_PATHS = {"/healthz", "/readyz"}
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def error_response(status: int, error: str, detail: str) -> JSONResponse:
    """Return a refusal: a name for programs and a sentence for people."""
    return JSONResponse({"error": error, "detail": detail}, status, headers=dict(_HEADERS))


class HttpGuard:
    """ASGI middleware that refuses requests without the key, and large ones.

    ``api_key``: None lets everyone in.
    """

    def __init__(self, app: Any, *, api_key: str | None) -> None:
        self._app = app
        self._api_key = None if api_key is None else api_key.encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Refuse the request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None and await _has_large_body(scope, receive):
            refusal = error_response(413, "body_too_large", "no path takes a body")
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Any) -> JSONResponse | None:
        if not self._is_allowed(scope):
            response = error_response(401, "key_invalid", "X-API-Key is missing or wrong")
            response.headers["WWW-Authenticate"] = "X-API-Key"
            return response
        if len(scope["query_string"]) > MAX_QUERY_BYTES:
            detail = f"the query is longer than {MAX_QUERY_BYTES} bytes"
            return error_response(422, "query_too_long", detail)
        return None

    def _is_allowed(self, scope: Any) -> bool:
        if self._api_key is None or scope["path"] in _OPEN_PATHS:
            return True
        given = [value for name, value in scope["headers"] if name == b"x-api-key"]
        # Compared in constant time: the delay of the response tells nothing about the key.
        return len(given) == 1 and hmac.compare_digest(given[0], self._api_key)


async def _has_large_body(scope: Any, receive: Any) -> bool:
    """Read a body and drop it; return whether it is too large.

    Closing a connection with unread bytes would lose the response.
    """
    names = {name for name, _ in scope["headers"]}
    if not names & {b"content-length", b"transfer-encoding"}:
        return False
    count = 0
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while count <= _DRAIN_BYTES:
                event = await receive()
                count += len(event.get("body", b""))
                if not event.get("more_body", False):
                    break
    except TimeoutError:
        return True
    return count > MAX_BODY_BYTES
