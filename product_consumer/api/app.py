"""The order service: totals, rankings, days, rejections and quality flags over HTTP, read only.

It reads the ledger, never Redis, so a response is right even while Redis is behind. Input of a
client reaches a database only as a bound, typed value.
"""

import logging
import threading
from collections.abc import Sequence
from typing import Annotated, Any, Protocol

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import TypeAdapter

from product_consumer.api.guard import HttpGuard, error_response
from product_consumer.api.results import add_results
from product_consumer.api.schemas import (
    DailyQuery,
    DayResponse,
    DaysQuery,
    ErrorResponse,
    FlagResponse,
    GlobalResponse,
    HealthResponse,
    LatestQuery,
    NoQuery,
    QualityQuery,
    RejectedResponse,
    TopQuery,
    UserResponse,
    day_response,
    first_problem,
    flag_response,
    global_response,
    rejected_response,
    user_response,
)
from product_consumer.errors import (
    ConfigurationError,
    InvalidMessage,
    ProductConsumerError,
    RejectMessage,
)
from product_consumer.orders.cleaning import clean_user_id
from product_consumer.orders.models import GlobalStats
from product_consumer.orders.statistics import OrderStatistics
from product_consumer.quality.models import QualityFlag
from product_consumer.streams.results import ResultStore

log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 5
_NO_CURRENCY = "XXX"
"""ISO 4217's code for "no currency": nothing was ordered and no default is set."""

_DAY_RESPONSES = TypeAdapter(list[DayResponse])

_ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"model": ErrorResponse, "description": "The key in X-API-Key is missing or wrong."},
    413: {"model": ErrorResponse, "description": "The request carries a large body."},
    422: {"model": ErrorResponse, "description": "The query cannot be answered as it is."},
    503: {"model": ErrorResponse, "description": "The ledger cannot be reached now."},
}
_UNKNOWN_USER: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorResponse, "description": "No order of this user was ever counted."}
}


class QualityFlags(Protocol):
    """A store of quality flags, as the service reads it."""

    def flags(
        self, *, subject: str | None, subject_id: str | None, code: str | None, limit: int
    ) -> Sequence[QualityFlag]:
        """Return flags, the latest first."""
        ...


class UnknownUser(ProductConsumerError):
    """Raised for a user without any counted order."""


def create_app(
    ledger: OrderStatistics,
    *,
    default_currency: str,
    quality: QualityFlags,
    results: ResultStore,
    api_key: str | None = None,
    stopping: threading.Event | None = None,
) -> FastAPI:
    """Return the service as an ASGI application.

    ``default_currency``: the currency of the main fields; empty for the currency with the most
    orders. ``api_key``: required in ``X-API-Key``, except at ``/healthz`` and ``/readyz``.
    ``stopping``: ends the waits of clients for results.
    """
    # No documentation pages: they load scripts from a third party. The schema is served.
    app = FastAPI(
        title="Order statistics",
        version="1",
        description="Totals of orders by user, day and currency, and results of stages; read only.",
        docs_url=None,
        redoc_url=None,
        responses=_ERRORS,
        redirect_slashes=False,
    )
    app.add_middleware(HttpGuard, api_key=api_key)
    _add_error_responses(app)
    responses = _Responses(ledger, default_currency)
    _add_statistics(app, responses)
    _add_lists(app, ledger, quality)
    add_results(app, results, stopping or threading.Event())
    _add_health(app, ledger)
    return app


class _Responses:
    """The statistics of the ledger as responses, each in its main currency. Thread-safe.

    Raises ``UnknownUser``, and the ledger's errors.
    """

    def __init__(self, ledger: OrderStatistics, default_currency: str) -> None:
        self.ledger = ledger
        self._default_currency = default_currency

    def user(self, raw_id: str, days: DaysQuery) -> UserResponse:
        try:
            user_id = clean_user_id(raw_id, [])
        except InvalidMessage:
            # An order with such a user id is never counted.
            raise UnknownUser from None
        all_time = self.ledger.user_stats(user_id)
        if not all_time:
            raise UnknownUser
        totals = all_time
        if days.day_from is not None or days.day_to is not None:
            totals = self.ledger.user_stats(user_id, days.day_from, days.day_to)
        currency = self._main([(total.order_count, total.currency) for total in all_time])
        return user_response(user_id, totals, currency)

    def everyone(self) -> GlobalResponse:
        totals = self.ledger.global_stats()
        return global_response(totals, self._main_of(totals))

    def top(self, query: TopQuery) -> list[UserResponse]:
        currency = query.currency or self._usual()
        users = self.ledger.top(query.by, query.n, currency)
        return [user_response(user.user_id, [user], currency) for user in users]

    def daily(self, query: DailyQuery) -> list[DayResponse]:
        currency = query.currency or self._usual()
        days = self.ledger.daily(query.day_from, query.day_to, currency)
        return [day_response(day) for day in days]

    def _usual(self) -> str:
        return self._default_currency or self._main_of(self.ledger.global_stats())

    def _main_of(self, totals: Sequence[GlobalStats]) -> str:
        return self._main([(total.total_orders, total.currency) for total in totals])

    def _main(self, order_counts: list[tuple[int, str]]) -> str:
        if self._default_currency:
            return self._default_currency
        return max(order_counts)[1] if order_counts else _NO_CURRENCY


def _add_statistics(app: FastAPI, responses: _Responses) -> None:
    @app.get(
        "/users/{user_id:path}/stats", responses=_UNKNOWN_USER, response_model_exclude_none=True
    )
    def user_stats(user_id: str, days: Annotated[DaysQuery, Query()]) -> UserResponse:
        """One user's totals: of all time, or of a range of days."""
        return responses.user(user_id, days)

    @app.get("/stats/global", response_model_exclude_none=True)
    def global_stats(_: Annotated[NoQuery, Query()]) -> GlobalResponse:
        """The totals of all users."""
        return responses.everyone()

    @app.get("/stats/top", response_model_exclude_none=True)
    def top_users(query: Annotated[TopQuery, Query()]) -> list[UserResponse]:
        """The users with the greatest spend or most orders in one currency, greatest first."""
        return responses.top(query)

    @app.get("/stats/daily", response_model=list[DayResponse])
    def daily_stats(query: Annotated[DailyQuery, Query()]) -> Response:
        """The UTC days with orders in one currency, oldest first."""
        # Encoded here: FastAPI would validate a year of days again, which takes longer than the
        # query.
        content = _DAY_RESPONSES.dump_json(responses.daily(query))
        return Response(content, media_type="application/json")


def _add_lists(app: FastAPI, ledger: OrderStatistics, quality: QualityFlags) -> None:
    @app.get("/orders/rejected")
    def rejected_orders(query: Annotated[LatestQuery, Query()]) -> list[RejectedResponse]:
        """Orders that went to the dead-letter queue, the latest first."""
        return [rejected_response(rejected) for rejected in ledger.rejected(query.limit)]

    @app.get("/quality")
    def quality_flags(query: Annotated[QualityQuery, Query()]) -> list[FlagResponse]:
        """Oddities that the quality checks found, the latest first."""
        flags = quality.flags(
            subject=query.subject,
            subject_id=query.subject_id,
            code=query.code,
            limit=query.limit,
        )
        return [flag_response(flag) for flag in flags]


def _add_health(app: FastAPI, ledger: OrderStatistics) -> None:
    @app.get("/healthz")
    def healthz() -> HealthResponse:
        """The process answers."""
        return HealthResponse(status="ok")

    @app.get("/readyz")
    def readyz(response: Response) -> HealthResponse:
        """The ledger answers."""
        try:
            ledger.ping()
        except ProductConsumerError as error:
            log.warning("Not ready: %s", error)
            response.status_code = 503
            return HealthResponse(status="ledger")
        return HealthResponse(status="ok")


def _add_error_responses(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    def invalid_query(_: Request, error: RequestValidationError) -> JSONResponse:
        return error_response(422, "query_invalid", first_problem(error.errors()))

    @app.exception_handler(UnknownUser)
    def unknown_user(_: Request, __: UnknownUser) -> JSONResponse:
        return error_response(404, "user_unknown", "no order of this user was ever counted")

    @app.exception_handler(404)
    def unknown_path(_: Request, __: Exception) -> JSONResponse:
        return error_response(404, "path_unknown", "there is nothing at this path")

    @app.exception_handler(405)
    def wrong_method(_: Request, __: Exception) -> JSONResponse:
        response = error_response(405, "method_not_allowed", "everything here is read with GET")
        response.headers["Allow"] = "GET"
        return response

    @app.exception_handler(ProductConsumerError)
    def unavailable(_: Request, error: ProductConsumerError) -> JSONResponse:
        if isinstance(error, RejectMessage):
            # Text that no database column can hold, such as text with a NUL.
            return error_response(422, "query_invalid", "a value holds what cannot be looked up")
        kind = "configuration" if isinstance(error, ConfigurationError) else "outage"
        log.warning("Answered 503 (%s): %s", kind, error)
        response = error_response(503, "unavailable", "the ledger cannot be reached now")
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        return response

    @app.exception_handler(Exception)
    def unexpected(_: Request, __: Exception) -> JSONResponse:
        # The server logs the traceback.
        return error_response(500, "unexpected", "this should not have happened")
