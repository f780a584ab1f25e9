"""Results of stages over HTTP: of one request, which a client may wait for, and the latest.

A client that waits holds no thread. One task asks the table for all of them together, and only
while somebody waits.
"""

import asyncio
import threading
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from weakref import WeakKeyDictionary

from fastapi import FastAPI, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.convertors import Convertor, register_url_convertor

from product_consumer.api.guard import error_response
from product_consumer.api.schemas import ErrorResponse, LatestQuery
from product_consumer.errors import ProductConsumerError
from product_consumer.streams.results import ResultStore, StageResult

MAX_WAIT_SECONDS = 30.0
POLL_SECONDS = 0.1
"""Pause between two questions to the table while somebody waits."""

_NO_RESULT: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorResponse, "description": "There is no result of this request yet."}
}
_Name = Annotated[str | None, Field(pattern=r"^[a-z_]{0,64}$")]


class _AnyText(Convertor[str]):
    """The rest of a path, whatever it holds: that of Starlette ends at a line break."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("any_text", _AnyText())


class NoResult(ProductConsumerError):
    """Raised for a request without any result."""


class WaitQuery(BaseModel):
    """How long to wait for the first result."""

    model_config = ConfigDict(extra="forbid")

    wait: Annotated[
        float,
        Field(ge=0, le=MAX_WAIT_SECONDS, allow_inf_nan=False, description="In seconds."),
    ] = 0.0


class ResultsQuery(LatestQuery):
    """A selection of results, the latest first; an empty value selects all."""

    status: Literal["", "done", "rejected"] | None = None
    kind: _Name = None


class ResultResponse(BaseModel):
    """What a stage made of one message; null with the reason where it rejected the message."""

    stage: str
    kind: str
    status: Literal["done", "rejected"]
    result: Any
    reason: str | None
    model: str | None
    created_at: datetime


class ListedResponse(ResultResponse):
    """A result in a list."""

    correlation_id: str


class RequestResponse(BaseModel):
    """All results of one request, the first stage first."""

    correlation_id: str
    results: list[ResultResponse]


class ResultWaiter:
    """Waits for results without a thread for each client.

    It may be used in several event loops. Raises what ``ResultStore`` raises.
    """

    def __init__(self, store: ResultStore, stopping: threading.Event) -> None:
        """``stopping``: ends all waits, so that the service need not wait for its clients."""
        self._store = store
        self._stopping = stopping
        self._rounds: WeakKeyDictionary[asyncio.AbstractEventLoop, _Round] = WeakKeyDictionary()

    async def results(self, correlation_id: str, wait_seconds: float) -> Sequence[StageResult]:
        """Return the results of a request, once there are any; none when the time is over."""
        found = await run_in_threadpool(self._store.of, correlation_id)
        if found or wait_seconds <= 0 or self._stopping.is_set():
            return found
        loop = asyncio.get_running_loop()
        if loop not in self._rounds:
            self._rounds[loop] = _Round(self._store, self._stopping)
        try:
            async with asyncio.timeout(wait_seconds):
                await self._rounds[loop].wait(correlation_id)
        except TimeoutError:
            pass
        # Also after the time is over: a result may have come since the last question.
        return await run_in_threadpool(self._store.of, correlation_id)


class _Round:
    """The clients that wait in one event loop."""

    def __init__(self, store: ResultStore, stopping: threading.Event) -> None:
        self._store = store
        self._stopping = stopping
        self._waiting: dict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None

    async def wait(self, correlation_id: str) -> None:
        """Return once there is a result, or at a stop."""
        future = asyncio.get_running_loop().create_future()
        self._waiting[correlation_id].add(future)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._ask())
        try:
            await future
        finally:
            self._waiting[correlation_id].discard(future)
            if not self._waiting[correlation_id]:
                del self._waiting[correlation_id]

    async def _ask(self) -> None:
        while self._waiting:
            await asyncio.sleep(POLL_SECONDS)
            asked = list(self._waiting)
            try:
                is_over = self._stopping.is_set()
                done = asked if is_over else await run_in_threadpool(self._store.present, asked)
            except Exception as error:
                self._end(asked, error)
            else:
                self._end(done)

    def _end(
        self, correlation_ids: Sequence[str] | set[str], error: Exception | None = None
    ) -> None:
        for correlation_id in correlation_ids:
            for future in self._waiting.get(correlation_id, ()):
                if future.done():
                    continue
                if error is None:
                    future.set_result(None)
                else:
                    future.set_exception(error)


def add_results(app: FastAPI, store: ResultStore, stopping: threading.Event) -> None:
    """Add the paths of results to the service."""
    waiter = ResultWaiter(store, stopping)

    @app.get("/results")
    def latest_results(query: Annotated[ResultsQuery, Query()]) -> list[ListedResponse]:
        """The latest results of all requests."""
        chosen = store.latest(
            status=query.status or None, kind=query.kind or None, limit=query.limit
        )
        return [
            ListedResponse(correlation_id=result.correlation_id, **_fields(result))
            for result in chosen
        ]

    @app.get("/results/{correlation_id:any_text}", responses=_NO_RESULT)
    async def request_results(
        correlation_id: str, query: Annotated[WaitQuery, Query()]
    ) -> RequestResponse:
        """The results of one request, which may be waited for."""
        found = await waiter.results(correlation_id, query.wait)
        if not found:
            raise NoResult
        results = [ResultResponse(**_fields(result)) for result in found]
        return RequestResponse(correlation_id=correlation_id, results=results)

    @app.exception_handler(NoResult)
    def no_result(_: Request, __: NoResult) -> JSONResponse:
        return error_response(404, "result_unknown", "there is no result of this request yet")


def _fields(result: StageResult) -> dict[str, Any]:
    return {
        "stage": result.stage,
        "kind": result.kind,
        "status": result.status,
        "result": result.value(),
        "reason": result.reason,
        "model": result.model,
        "created_at": result.created_at.astimezone(UTC),
    }
