"""Queries and responses of the order service. Money is a decimal string, never a float."""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from product_consumer.orders.models import DayStats, GlobalStats, RejectedOrder, UserStats
from product_consumer.orders.statistics import MAX_ROWS
from product_consumer.quality.models import QualityFlag

MAX_USERS = 1000
"""Most users of one ranking."""

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


def _as_day(raw: object) -> object:
    if raw == "":
        return None
    # pydantic would also read "0" as the first day of 1970.
    if isinstance(raw, str) and not _DAY.fullmatch(raw):
        raise ValueError("needs a day such as 2024-12-31")
    return raw


_DAY_SCHEMA = {"anyOf": [{"type": "string", "format": "date"}, {"type": "string", "maxLength": 0}]}
_Day = Annotated[date | None, BeforeValidator(_as_day), WithJsonSchema(_DAY_SCHEMA)]
CurrencyCode = Annotated[str, Field(pattern=r"^[A-Z]{3}$", description="ISO 4217")]
_From = Annotated[_Day, Field(alias="from", description="First UTC day, included.")]
_To = Annotated[_Day, Field(alias="to", description="Last UTC day, included.")]


class _Query(BaseModel):
    # A misspelt parameter that is ignored would give a wrong response with status 200.
    model_config = ConfigDict(extra="forbid")


class NoQuery(_Query):
    """A path without parameters."""


class DaysQuery(_Query):
    """A range of UTC days; an end that is left out, or empty, is open."""

    day_from: _From = None
    day_to: _To = None

    @model_validator(mode="after")
    def _check_order(self) -> "DaysQuery":
        if self.day_from and self.day_to and self.day_from > self.day_to:
            raise ValueError("from is after to")
        return self


class DailyQuery(DaysQuery):
    """Days in one currency."""

    currency: CurrencyCode | None = None

    @model_validator(mode="after")
    def _check_length(self) -> "DailyQuery":
        # One row a day: more rows would be cut off silently.
        if self.day_from and self.day_to and (self.day_to - self.day_from).days >= MAX_ROWS:
            raise ValueError(f"the range is longer than {MAX_ROWS} days")
        return self


class TopQuery(_Query):
    """A ranking of users."""

    by: Literal["spend", "orders"] = "spend"
    n: Annotated[int, Field(ge=1, le=MAX_USERS)] = 10
    currency: CurrencyCode | None = None


class LatestQuery(_Query):
    """The length of a list, the latest first."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class QualityQuery(LatestQuery):
    """A selection of flags, the latest first."""

    subject: Literal["order", "product"] | None = None
    # PostgreSQL refuses NUL in text.
    subject_id: Annotated[str | None, Field(alias="id", pattern=r"^[^\x00]{1,512}$")] = None
    code: Annotated[str | None, Field(pattern=r"^[a-z_]{1,64}$")] = None


class Amount(BaseModel):
    """Totals in one further currency."""

    currency: str
    order_count: int
    total_spend: str


class UserResponse(BaseModel):
    """A user's totals in ``currency``, and in the user's other currencies, if there are any."""

    user_id: str
    order_count: int
    total_spend: str
    currency: str
    other_currencies: list[Amount] | None = None


class GlobalResponse(BaseModel):
    """The totals of all users in ``currency``, and in other currencies, if there are any."""

    total_orders: int
    total_revenue: str
    currency: str
    other_currencies: list[Amount] | None = None


class DayResponse(BaseModel):
    """One UTC day with orders."""

    day: date
    order_count: int
    total_spend: str


class RejectedResponse(BaseModel):
    """A message that went to the dead-letter queue."""

    message_id: str
    order_id: str | None
    reason: str
    detail: str
    at: datetime


class FlagResponse(BaseModel):
    """Something odd about one order or product; it was counted or stored all the same."""

    subject: Literal["order", "product"]
    id: str
    code: str
    reason: str
    source: Literal["rule", "language_model"]
    at: datetime


class HealthResponse(BaseModel):
    """``ok``, or the dependency that is down."""

    status: str


class ErrorResponse(BaseModel):
    """The reason of a refusal: a name for programs, a sentence for people."""

    error: str
    detail: str


def user_response(user_id: str, totals: Sequence[UserStats], currency: str) -> UserResponse:
    """``totals``: of the user, by currency, in any order. ``currency``: of the main fields."""
    by_currency = {total.currency: total for total in totals}
    main = by_currency.pop(currency, UserStats(user_id, currency, 0, 0))
    others = [
        Amount(currency=code, order_count=total.order_count, total_spend=total.total_spend)
        for code, total in by_currency.items()
    ]
    return UserResponse(
        user_id=user_id,
        order_count=main.order_count,
        total_spend=main.total_spend,
        currency=currency,
        other_currencies=others or None,
    )


def global_response(totals: Sequence[GlobalStats], currency: str) -> GlobalResponse:
    """``totals``: of all users, by currency, in any order. ``currency``: of the main fields."""
    by_currency = {total.currency: total for total in totals}
    main = by_currency.pop(currency, GlobalStats(currency, 0, 0))
    others = [
        Amount(currency=code, order_count=total.total_orders, total_spend=total.total_revenue)
        for code, total in by_currency.items()
    ]
    return GlobalResponse(
        total_orders=main.total_orders,
        total_revenue=main.total_revenue,
        currency=currency,
        other_currencies=others or None,
    )


def day_response(day: DayStats) -> DayResponse:
    """The totals are in the currency that was asked for."""
    return DayResponse(day=day.day, order_count=day.order_count, total_spend=day.total_spend)


def rejected_response(rejected: RejectedOrder) -> RejectedResponse:
    """Times are UTC."""
    return RejectedResponse(
        message_id=rejected.message_id,
        order_id=rejected.order_id,
        reason=rejected.reason,
        detail=rejected.detail,
        at=rejected.at.astimezone(UTC),
    )


def flag_response(flag: QualityFlag) -> FlagResponse:
    """Times are UTC."""
    return FlagResponse(
        subject=flag.subject,
        id=flag.subject_id,
        code=flag.code,
        reason=flag.reason,
        source=flag.source,
        at=flag.at.astimezone(UTC),
    )


def first_problem(errors: Sequence[Any]) -> str:
    """Describe the first error of a query in one sentence, without the value that was sent."""
    first = errors[0]
    names = [str(name) for name in first["loc"] if name not in ("query", "path", "body")]
    message = str(first["msg"]).removeprefix("Value error, ")
    # The sender may have made the name up, for a parameter that does not exist.
    name = ascii(".".join(names))[1:-1][:64] if names else ""
    return f"{name}: {message}" if name else message
