"""The shape of a product message: pydantic models, which are also the published JSON Schema.

A field validator returns the normalised value or raises ``InvalidMessage``; ``rejection`` turns the
errors that pydantic collected into the one reason that is reported.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from product_consumer.errors import InvalidMessage
from product_consumer.messages.fields import missing, read_id
from product_consumer.models import MAX_ID_BYTES
from product_consumer.products.reviews import (
    MAX_RATING,
    MAX_REVIEWS_COUNT,
    parse_rating,
    parse_reviews_count,
)
from product_consumer.text import (
    check_text,
    clean_label,
    cut_to_bytes,
    excerpt,
    without_half_at_the_end,
    without_halves,
)

MAX_NAME_BYTES = 8 * 1024
MAX_DESCRIPTION_BYTES = 64 * 1024
MAX_LABEL_BYTES = 1024
MAX_STORE_URL_BYTES = 2048

_Clean = Callable[[Any, str, list[str]], Any]


def _validator(clean: _Clean) -> PlainValidator:
    """Lift ``clean(value, field, flags)`` into pydantic, so that it collects our reasons."""

    def validate(value: Any, info: ValidationInfo) -> Any:
        flags = info.context if isinstance(info.context, list) else []
        try:
            return clean(value, info.field_name or "", flags)
        except InvalidMessage as error:
            # Braces in the detail are data, not placeholders of pydantic's template.
            raise PydanticCustomError(error.reason, "{detail}", {"detail": error.detail}) from error

    return PlainValidator(validate)


def _required_text(wrong_type: str, clean_text: _Clean) -> PlainValidator:
    def clean(value: Any, field: str, flags: list[str]) -> str:
        if value is None:
            raise missing(field)
        if not isinstance(value, str):
            raise InvalidMessage(wrong_type, f"{field} is {excerpt(value)}; text is needed")
        text: str = clean_text(value, field, flags)
        if not text:
            raise missing(field)
        return text

    return _validator(clean)


def _clean_image_url(value: str, field: str, _flags: list[str]) -> str:
    return check_text(value, field).strip()


def _clean_name(value: str, field: str, flags: list[str]) -> str:
    # Inside a name, half a character is damage of another kind than a cut.
    mended = _mended(value, without_half_at_the_end(value), field, flags)
    return _cut(clean_label(check_text(mended, field)), MAX_NAME_BYTES, field, flags)


def _optional_text(max_bytes: int, clean_text: Callable[[str], str]) -> PlainValidator:
    def clean(value: Any, field: str, flags: list[str]) -> str | None:
        if value is not None and not isinstance(value, str):
            # A field that the product can do without must not keep it out of the stores.
            flags.append(f"{field}_ignored")
            return None
        text = value or ""
        mended = _mended(text, without_halves(text), field, flags)
        return _cut(clean_text(check_text(mended, field)), max_bytes, field, flags) or None

    return _validator(clean)


def _mended(text: str, mended: str, field: str, flags: list[str]) -> str:
    if mended != text:
        flags.append(f"{field}_mended")
    return mended


def _clean_store_url(value: Any, field: str, flags: list[str]) -> str | None:
    mended = without_halves(value) if isinstance(value, str) else ""
    text = check_text(mended, field).strip()
    # Never cut or mended: a part of a link leads somewhere else.
    is_whole = value is None or value == mended
    is_usable = is_whole and len(text.encode()) <= MAX_STORE_URL_BYTES
    if not is_usable:
        flags.append(f"{field}_ignored")
    return text if is_usable and text else None


def _clean_deleted(value: Any, field: str, _flags: list[str]) -> bool:
    if value is not None and not isinstance(value, bool):
        raise InvalidMessage(
            "deleted_type", f"{field} is {excerpt(value)}; true or false is needed"
        )
    return bool(value)


def _cut(text: str, max_bytes: int, field: str, flags: list[str]) -> str:
    shortened = cut_to_bytes(text, max_bytes).rstrip()
    if len(shortened) < len(text):
        flags.append(f"{field}_cut")
    return shortened


def _accepts(*types: str, **more: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": types[0] if len(types) == 1 else list(types), **more})


_TEXT_OR_NULL = _accepts("string", "null")
_Time = Annotated[Any, _accepts("string", "number", "null")]
_Label = Annotated[str | None, _optional_text(MAX_LABEL_BYTES, clean_label), _TEXT_OR_NULL]


class _AnyMessage(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    id: Annotated[
        str,
        _validator(lambda value, field, _flags: read_id(value, field)),
        _accepts("string", "integer", minLength=1),
    ] = Field(
        description=f"Key of the product, at most {MAX_ID_BYTES} bytes of UTF-8; 123 is '123'.",
        examples=["abc123"],
    )
    version: Annotated[Any, _accepts("integer", "string", "null")] = Field(
        default=None,
        description="Orders the messages of one product; ranks above every time. 0 to 2^63-1.",
        examples=[17],
    )
    updated_at: _Time = Field(
        default=None,
        description="Event time: ISO 8601, RFC 1123, epoch s, ms or µs, or DDMMYYYY_HHMMSS.",
        examples=["2026-11-21T14:30:05+07:00"],
    )
    timestamp: _Time = Field(
        default=None,
        description="Event time where updated_at is absent; the same formats.",
        examples=["21112026_143005", 1795246205],
    )
    schema_version: Annotated[Any, _accepts("integer", "number", "string", "null")] = Field(
        default=None, description="1, or left out.", examples=[1]
    )


class ProductMessage(_AnyMessage):
    """A product as it is now; replaces the content of an older message."""

    model_config = ConfigDict(title="Product message")

    deleted: Annotated[bool, _validator(_clean_deleted), _accepts("boolean", "null")] = Field(
        default=False, description="True makes the message a tombstone.", examples=[False]
    )
    name: Annotated[
        str, _required_text("name_type", _clean_name), _accepts("string", minLength=1)
    ] = Field(
        description="Shown, searched and embedded; entities of HTML are resolved. "
        f"Cut at {MAX_NAME_BYTES} bytes.",
        examples=["Áo thun nam cổ tròn"],
    )
    price: Annotated[Any, _accepts("string", "number", "null")] = Field(
        description="Crawled text with one amount, or a number in major units; "
        "free, N/A, blank or null: unknown.",
        examples=["1.299.000₫", "$1,299.00", 1299000, None],
    )
    currency: Annotated[Any, _TEXT_OR_NULL] = Field(
        default=None,
        description="ISO 4217 code for a price that names none, or a sign that several currencies "
        "share; must not contradict the price.",
        examples=["VND"],
    )
    image_url: Annotated[
        str, _required_text("image_url_invalid", _clean_image_url), _accepts("string", minLength=1)
    ] = Field(
        description="http or https address of the product's image.",
        examples=["https://cdn.example/img/abc123.jpg"],
    )
    store_url: Annotated[str | None, _validator(_clean_store_url), _TEXT_OR_NULL] = Field(
        default=None,
        description=f"Link to the product's page; left out above {MAX_STORE_URL_BYTES} bytes.",
        examples=["https://shop.example/p/abc123"],
    )
    rating: Annotated[
        float | None,
        _validator(parse_rating),
        _accepts("string", "number", "null", minimum=0, maximum=MAX_RATING),
    ] = Field(
        default=None,
        description="Stars, 0 to 5; left out where it cannot be read.",
        examples=["4.8", 4.8],
    )
    reviews_count: Annotated[
        int | None,
        _validator(parse_reviews_count),
        _accepts("string", "integer", "null", minimum=0, maximum=MAX_REVIEWS_COUNT),
    ] = Field(
        default=None,
        description="Number of reviews; left out where it cannot be read.",
        examples=["1520", 1520],
    )
    description: Annotated[
        str | None, _optional_text(MAX_DESCRIPTION_BYTES, str.strip), _TEXT_OR_NULL
    ] = Field(default=None, description=f"Cut at {MAX_DESCRIPTION_BYTES} bytes.")
    category: _Label = Field(default=None, description=f"Cut at {MAX_LABEL_BYTES} bytes.")
    brand: _Label = Field(default=None, description=f"Cut at {MAX_LABEL_BYTES} bytes.")


class TombstoneMessage(_AnyMessage):
    """The product is gone. Needs version, updated_at or timestamp; other fields are ignored."""

    model_config = ConfigDict(title="Tombstone")

    deleted: Literal[True] = Field(description="Always true.")


def message_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a message body: a product or a tombstone."""
    adapter: TypeAdapter[Any] = TypeAdapter(TombstoneMessage | ProductMessage)
    schema = adapter.json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Message", **schema}


def rejection(error: ValidationError) -> InvalidMessage:
    """Return the one reason to report: the first missing field, else the first bad one.

    "First" is the order of the fields in the model, so equal bodies get equal reasons.
    """
    problems = [
        _reason_and_detail(problem)
        for problem in error.errors(include_url=False, include_input=False)
    ]
    problems.sort(key=lambda problem: not problem[0].startswith("missing:"))
    return InvalidMessage(*problems[0])


def _reason_and_detail(problem: ErrorDetails) -> tuple[str, str]:
    if problem["type"] == "missing":
        error = missing(str(problem["loc"][0]))
        return error.reason, error.detail
    return problem["type"], problem["msg"]
