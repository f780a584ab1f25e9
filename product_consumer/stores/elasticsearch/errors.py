"""What a response of Elasticsearch means for the messages behind it."""

from collections.abc import Iterator, Sequence
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
from product_consumer.network.tls import cause_in_words
from product_consumer.refusals import ELASTICSEARCH, find_refusal

NAME = "elasticsearch"
# What a gateway answers for a server that is down is not among them.
_NOT_ITS_ANSWERS = (301, 302, 307, 308, 400, 404, 405, 501)
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
        raise _error_of([type(error).__name__], "it does not say that it is") from error
    except ApiError as error:
        codes = [error.error, str(error.status_code)]
        if error.status_code in _NOT_ITS_ANSWERS and "x-elastic-product" not in error.meta.headers:
            codes = [UnsupportedProductError.__name__]
        raise _error_of(codes, f"{error.status_code} {reason_of(error)}") from error
    except TransportError as error:
        # The client's own text leaves out why.
        detail = f"{type(error).__name__}: {cause_in_words(error) or error}"
        raise _error_of([type(error).__name__], detail) from error


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
    raise _error_of([error["type"], str(item["status"])], detail)


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


def _error_of(codes: Sequence[str], detail: str) -> ProductConsumerError:
    refusal = find_refusal(ELASTICSEARCH, codes, detail)
    if refusal is None or refusal.setting is None:
        return StoreUnavailable(NAME, short(detail))
    return ConfigurationError(refusal.setting, short(f"{refusal.why}: {detail}"))
