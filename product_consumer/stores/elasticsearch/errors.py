"""What a response of Elasticsearch means for the messages behind it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from elastic_transport import ObjectApiResponse
from elasticsearch import ApiError, TransportError, UnsupportedProductError

from product_consumer.errors import (
    ConfigurationError,
    ProductConsumerError,
    RejectMessage,
    StoreUnavailable,
)

NAME = "elasticsearch"
_REFUSED_DOCUMENT = {
    "mapper_parsing_exception",
    "document_parsing_exception",
    "strict_dynamic_mapping_exception",
    "illegal_argument_exception",
}


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn the client's errors into ``StoreUnavailable`` or ``ConfigurationError``."""
    try:
        yield
    except UnsupportedProductError as error:
        raise ConfigurationError(
            "ELASTICSEARCH_URL", "what answers there is not Elasticsearch"
        ) from error
    except ApiError as error:
        detail = short(f"{error.status_code} {reason_of(error)}")
        raise _error_of_status(error.status_code, error.error, detail) from error
    except TransportError as error:
        detail = short(f"{type(error).__name__}: {error}")
        raise StoreUnavailable(NAME, detail) from error


def row_failure(item: dict[str, Any], alias: str) -> RejectMessage | None:
    """Return why the row of one line of a bulk response failed; None where it did not.

    Raises as ``translated_errors`` does where the failure is not the row's fault.
    """
    error = item.get("error")
    # 409: a newer revision is there. 404 without an error: nothing was there to delete.
    if error is None or item["status"] == 409:
        return None
    detail = short(f"{error['type']}: {error['reason']}")
    # Refused before it reached an index (the alias has none to write to): no document's fault.
    reached_an_index = item["_index"] != alias
    if error["type"] in _REFUSED_DOCUMENT and reached_an_index:
        return RejectMessage("store_rejected", detail)
    raise _error_of_status(item["status"], error["type"], detail)


def field_of(response: ObjectApiResponse[Any], name: str) -> Any:
    """Return one field of a response's body; raise ``StoreUnavailable`` where it is missing.

    A response that was cut off within its headers has no body, and the client takes it for
    complete.
    """
    body = response.body
    if not isinstance(body, dict) or name not in body:
        raise StoreUnavailable(NAME, f"it sent an answer without {name}")
    return body[name]


def reason_of(error: ApiError) -> str:
    """Return the server's own words; the error's type where it sent none."""
    body = error.body
    cause = body.get("error") if isinstance(body, dict) else None
    return str(cause.get("reason", error.error)) if isinstance(cause, dict) else str(error.error)


def short(text: str) -> str:
    """Return the text in one line of at most 300 characters."""
    return " ".join(text.split())[:300]


def _error_of_status(status: int, error_type: str, detail: str) -> ProductConsumerError:
    # A blocked index (disk nearly full, made read-only) is answered with 403 too.
    if status in (401, 403) and error_type != "cluster_block_exception":
        return ConfigurationError("ELASTICSEARCH_API_KEY", f"was refused: {detail}")
    return StoreUnavailable(NAME, detail)
