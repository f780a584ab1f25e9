"""The order service: totals, rankings, days, rejections and quality flags over HTTP, read only.

It reads the ledger, never Redis, so an answer is right even while Redis is behind. Nothing that a
client sends reaches a database as anything but a bound, typed value.
"""

import logging
from collections.abc import Sequence
from typing import Annotated, Any, Protocol

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import TypeAdapter

from product_consumer.api.guard import HttpGuard, error_answer
from product_consumer.api.schemas import (
    DailyQuery,
    DayAnswer,
    DaysQuery,
    ErrorAnswer,
    FlagAnswer,
    GlobalAnswer,
    HealthAnswer,
    LatestQuery,
    NoQuery,
    QualityQuery,
    RejectedAnswer,
    TopQuery,
    UserAnswer,
    day_answer,
    first_problem,
    flag_answer,
    global_answer,
    rejected_answer,
    user_answer,
)
from product_consumer.errors import (
    ConfigurationError,
    InvalidMessage,
    ProductConsumerError,
    RejectMessage,
)
from product_consumer.orders.cleaning import clean_user_id
from product_consumer.orders.statistics import OrderStatistics
from product_consumer.quality.models import QualityFlag

log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 5
_NO_CURRENCY = "XXX"
"""ISO 4217's code for "no currency": nothing was ordered and no default is set."""

_DAY_ANSWERS = TypeAdapter(list[DayAnswer])

_ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"model": ErrorAnswer, "description": "The key in X-API-Key is missing or wrong."},
    413: {"model": ErrorAnswer, "description": "The request carries a large body."},
    422: {"model": ErrorAnswer, "description": "The query cannot be answered as it is."},
    503: {"model": ErrorAnswer, "description": "The ledger cannot be reached now."},
}
_UNKNOWN_USER: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorAnswer, "description": "No order of this user was ever counted."}
}


class QualityFlags(Protocol):
    """Where the flags of the quality checks are kept."""

    def flags(
        self, *, subject: str | None, subject_id: str | None, code: str | None, limit: int
    ) -> Sequence[QualityFlag]:
        """Return flags, the latest first."""
        ...


class UnknownUser(ProductConsumerError):
    """Raised for a user of whom no order was ever counted."""


def create_app(
    ledger: OrderStatistics,
    *,
    default_currency: str,
    quality: QualityFlags,
    api_key: str | None = None,
) -> FastAPI:
    """Return the service as an ASGI application.

    ``default_currency``: the currency of the main fields; empty: the one with the most orders.
    ``api_key``: asked for in ``X-API-Key`` everywhere but in ``/healthz`` and ``/readyz``.
    """
    # No documentation pages: they load scripts from a third party. The schema is served.
    app = FastAPI(
        title="Order statistics",
        version="1",
        description="Totals of orders by user, day and currency; read only.",
        docs_url=None,
        redoc_url=None,
        responses=_ERRORS,
        redirect_slashes=False,
    )
    app.add_middleware(HttpGuard, api_key=api_key)
    _add_error_answers(app)
    answers = _Answers(ledger, default_currency)
    _add_statistics(app, answers)
    _add_lists(app, ledger, quality)
    _add_health(app, ledger)
    return app


class _Answers:
    """Which currency an answer is in, and who is known."""

    def __init__(self, ledger: OrderStatistics, default_currency: str) -> None:
        self.ledger = ledger
        self._default_currency = default_currency

    def user(self, raw_id: str, days: DaysQuery) -> UserAnswer:
        try:
            user_id = clean_user_id(raw_id, [])
        except InvalidMessage:
            # Such an order is never counted, so such a user is never known.
            raise UnknownUser from None
        ever = self.ledger.user_stats(user_id)
        if not ever:
            raise UnknownUser
        is_all_time = days.day_from is None and days.day_to is None
        found = ever if is_all_time else self.ledger.user_stats(user_id, days.day_from, days.day_to)
        return user_answer(
            user_id, found, self._main([(each.order_count, each.currency) for each in ever])
        )

    def everyone(self) -> GlobalAnswer:
        found = self.ledger.global_stats()
        return global_answer(
            found, self._main([(each.total_orders, each.currency) for each in found])
        )

    def top(self, query: TopQuery) -> list[UserAnswer]:
        currency = query.currency or self._named()
        found = self.ledger.top(query.by, query.n, currency)
        return [user_answer(each.user_id, [each], currency) for each in found]

    def daily(self, query: DailyQuery) -> list[DayAnswer]:
        currency = query.currency or self._named()
        return [
            day_answer(each) for each in self.ledger.daily(query.day_from, query.day_to, currency)
        ]

    def _main(self, found: list[tuple[int, str]]) -> str:
        return self._default_currency or (max(found)[1] if found else _NO_CURRENCY)

    def _named(self) -> str:
        return self._default_currency or self._main(
            [(each.total_orders, each.currency) for each in self.ledger.global_stats()]
        )


def _add_statistics(app: FastAPI, answers: _Answers) -> None:
    @app.get(
        "/users/{user_id:path}/stats", responses=_UNKNOWN_USER, response_model_exclude_none=True
    )
    def user_stats(user_id: str, days: Annotated[DaysQuery, Query()]) -> UserAnswer:
        """One user's totals: of all time, or of a range of days."""
        return answers.user(user_id, days)

    @app.get("/stats/global", response_model_exclude_none=True)
    def global_stats(_: Annotated[NoQuery, Query()]) -> GlobalAnswer:
        """The totals of all users."""
        return answers.everyone()

    @app.get("/stats/top", response_model_exclude_none=True)
    def top_users(query: Annotated[TopQuery, Query()]) -> list[UserAnswer]:
        """The users with the greatest spend or most orders in one currency, greatest first."""
        return answers.top(query)

    @app.get("/stats/daily", response_model=list[DayAnswer])
    def daily_stats(query: Annotated[DailyQuery, Query()]) -> Response:
        """The UTC days with orders in one currency, oldest first."""
        # Written out here: checking a year of answers once more takes longer than finding them.
        content = _DAY_ANSWERS.dump_json(answers.daily(query))
        return Response(content, media_type="application/json")


def _add_lists(app: FastAPI, ledger: OrderStatistics, quality: QualityFlags) -> None:
    @app.get("/orders/rejected")
    def rejected_orders(query: Annotated[LatestQuery, Query()]) -> list[RejectedAnswer]:
        """Orders that went to the dead-letter queue, the latest first."""
        return [rejected_answer(each) for each in ledger.rejected(query.limit)]

    @app.get("/quality")
    def quality_flags(query: Annotated[QualityQuery, Query()]) -> list[FlagAnswer]:
        """What the quality checks found odd, the latest first."""
        found = quality.flags(
            subject=query.subject,
            subject_id=query.subject_id,
            code=query.code,
            limit=query.limit,
        )
        return [flag_answer(each) for each in found]


def _add_health(app: FastAPI, ledger: OrderStatistics) -> None:
    @app.get("/healthz")
    def healthz() -> HealthAnswer:
        """The process answers."""
        return HealthAnswer(status="ok")

    @app.get("/readyz")
    def readyz(response: Response) -> HealthAnswer:
        """The ledger answers."""
        try:
            ledger.ping()
        except ProductConsumerError as error:
            log.warning("Not ready: %s", error)
            response.status_code = 503
            return HealthAnswer(status="ledger")
        return HealthAnswer(status="ok")


def _add_error_answers(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    def invalid_query(_: Request, error: RequestValidationError) -> JSONResponse:
        return error_answer(422, "query_invalid", first_problem(error.errors()))

    @app.exception_handler(UnknownUser)
    def unknown_user(_: Request, __: UnknownUser) -> JSONResponse:
        return error_answer(404, "user_unknown", "no order of this user was ever counted")

    @app.exception_handler(404)
    def unknown_path(_: Request, __: Exception) -> JSONResponse:
        return error_answer(404, "path_unknown", "there is nothing at this path")

    @app.exception_handler(405)
    def wrong_method(_: Request, __: Exception) -> JSONResponse:
        answer = error_answer(405, "method_not_allowed", "everything here is read with GET")
        answer.headers["Allow"] = "GET"
        return answer

    @app.exception_handler(ProductConsumerError)
    def unavailable(_: Request, error: ProductConsumerError) -> JSONResponse:
        if isinstance(error, RejectMessage):
            # Text that no database column could hold, such as one with a NUL.
            return error_answer(422, "query_invalid", "a value holds what cannot be looked up")
        kind = "configuration" if isinstance(error, ConfigurationError) else "outage"
        log.warning("Answered 503 (%s): %s", kind, error)
        answer = error_answer(503, "unavailable", "the ledger cannot be reached now")
        answer.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        return answer

    @app.exception_handler(Exception)
    def unexpected(_: Request, __: Exception) -> JSONResponse:
        # The server logs the traceback.
        return error_answer(500, "unexpected", "this should not have happened")
