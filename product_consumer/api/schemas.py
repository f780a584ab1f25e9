"""What the order service is asked and what it answers. Money is a decimal string, never a float."""

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
    # A misspelt parameter that changes nothing would be a wrong answer with status 200.
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
        # One row a day: more would be cut off without a word.
        if self.day_from and self.day_to and (self.day_to - self.day_from).days >= MAX_ROWS:
            raise ValueError(f"the range is longer than {MAX_ROWS} days")
        return self


class TopQuery(_Query):
    """Which users come first."""

    by: Literal["spend", "orders"] = "spend"
    n: Annotated[int, Field(ge=1, le=MAX_USERS)] = 10
    currency: CurrencyCode | None = None


class LatestQuery(_Query):
    """How much of a list, the latest first."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class QualityQuery(LatestQuery):
    """Which flags."""

    subject: Literal["order", "product"] | None = None
    # PostgreSQL refuses NUL in text.
    subject_id: Annotated[str | None, Field(alias="id", pattern=r"^[^\x00]{1,512}$")] = None
    code: Annotated[str | None, Field(pattern=r"^[a-z_]{1,64}$")] = None


class Amount(BaseModel):
    """Totals in one further currency."""

    currency: str
    order_count: int
    total_spend: str


class UserAnswer(BaseModel):
    """A user's totals in ``currency``; what was ordered in others stands beside it, if anything."""

    user_id: str
    order_count: int
    total_spend: str
    currency: str
    other_currencies: list[Amount] | None = None


class GlobalAnswer(BaseModel):
    """The totals of all users in ``currency``; others stand beside it, if there are any."""

    total_orders: int
    total_revenue: str
    currency: str
    other_currencies: list[Amount] | None = None


class DayAnswer(BaseModel):
    """One UTC day with orders."""

    day: date
    order_count: int
    total_spend: str


class RejectedAnswer(BaseModel):
    """A message that went to the dead-letter queue."""

    message_id: str
    order_id: str | None
    reason: str
    detail: str
    at: datetime


class FlagAnswer(BaseModel):
    """Something odd about one order or product; it was counted or stored all the same."""

    subject: Literal["order", "product"]
    id: str
    code: str
    reason: str
    source: Literal["rule", "language_model"]
    at: datetime


class HealthAnswer(BaseModel):
    """``ok``, or which part is down."""

    status: str


class ErrorAnswer(BaseModel):
    """Why a request was not answered: a name for programs, a sentence for people."""

    error: str
    detail: str


def user_answer(user_id: str, found: Sequence[UserStats], currency: str) -> UserAnswer:
    """``found``: the user's totals by currency, in any order; zero where there are none."""
    main = [each for each in found if each.currency == currency]
    shown = main[0] if main else UserStats(user_id, currency, 0, 0)
    others = [
        Amount(currency=each.currency, order_count=each.order_count, total_spend=each.total_spend)
        for each in found
        if each.currency != currency
    ]
    return UserAnswer(
        user_id=user_id,
        order_count=shown.order_count,
        total_spend=shown.total_spend,
        currency=currency,
        other_currencies=others or None,
    )


def global_answer(found: Sequence[GlobalStats], currency: str) -> GlobalAnswer:
    """``found``: totals by currency, in any order; zero where there are none."""
    main = [each for each in found if each.currency == currency]
    shown = main[0] if main else GlobalStats(currency, 0, 0)
    others = [
        Amount(
            currency=each.currency, order_count=each.total_orders, total_spend=each.total_revenue
        )
        for each in found
        if each.currency != currency
    ]
    return GlobalAnswer(
        total_orders=shown.total_orders,
        total_revenue=shown.total_revenue,
        currency=currency,
        other_currencies=others or None,
    )


def day_answer(day: DayStats) -> DayAnswer:
    """The day's currency is the one that was asked for."""
    return DayAnswer(day=day.day, order_count=day.order_count, total_spend=day.total_spend)


def rejected_answer(rejected: RejectedOrder) -> RejectedAnswer:
    """Times are UTC."""
    return RejectedAnswer(
        message_id=rejected.message_id,
        order_id=rejected.order_id,
        reason=rejected.reason,
        detail=rejected.detail,
        at=rejected.at.astimezone(UTC),
    )


def flag_answer(flag: QualityFlag) -> FlagAnswer:
    """Times are UTC."""
    return FlagAnswer(
        subject=flag.subject,
        id=flag.subject_id,
        code=flag.code,
        reason=flag.reason,
        source=flag.source,
        at=flag.at.astimezone(UTC),
    )


def first_problem(errors: Sequence[Any]) -> str:
    """One sentence on what is wrong with a query, without the value that was sent."""
    first = errors[0]
    place = [str(part) for part in first["loc"] if part not in ("query", "path", "body")]
    message = str(first["msg"]).removeprefix("Value error, ")
    # The name may be the sender's own, for a parameter that does not exist.
    name = ascii(".".join(place))[1:-1][:64] if place else ""
    return f"{name}: {message}" if name else message
