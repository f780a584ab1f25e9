"""CloudEvents in their JSON format -> what they carry.

The format: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md. In
binary mode the body is the content itself, so nothing has to be done for it.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from product_consumer.errors import InvalidMessage
from product_consumer.text import excerpt

MESSAGE_FIELDS = frozenset(("image_url", "deleted", "order_id", "items"))
"""What has one of these is a product or an order itself, whatever else it has."""

OBJECT_TEXT = re.compile(r'[\ufeff\s]*(?:"(?:\s|\\[nrt])*)?\{')
"""The beginning of JSON text that holds an object, or holds the JSON text of one."""

_VERSION = re.compile(r"0\.3|1\.[0-9]{1,3}")


def is_cloud_event(outer: Mapping[str, Any]) -> bool:
    """Tell an event from a product or an order that has fields of the same names."""
    if not isinstance(outer.get("specversion"), str) or outer.keys() & MESSAGE_FIELDS:
        return False
    has_context = all(isinstance(outer.get(name), str) for name in ("type", "source"))
    return has_context or "id" not in outer


def content_of_cloud_event(event: Mapping[str, Any]) -> str | dict[str, Any]:
    """Return the content of an event: an object, or text that begins like one.

    Raises ``InvalidMessage``: ``unsupported_envelope`` for any other content, ``encoding`` for
    bytes that are not UTF-8.
    """
    version = event["specversion"]
    if not _VERSION.fullmatch(version):
        raise _unsupported(f"of version {excerpt(version)}")
    data, encoded = event.get("data"), event.get("data_base64")
    if data is not None and encoded is not None:
        raise _unsupported("with both data and data_base64")
    if encoded is None and event.get("datacontentencoding") == "base64":
        data, encoded = None, data
    if data is None and encoded is None:
        place = f"; dataref names {excerpt(event['dataref'])}" if "dataref" in event else ""
        raise _unsupported(f"without data{place}")
    if isinstance(data, dict):
        return data
    text = data if encoded is None else _decoded(encoded)
    if not isinstance(text, str) or not OBJECT_TEXT.match(text):
        kind = event.get("datacontenttype")
        named = f" ({excerpt(kind)})" if kind is not None else ""
        raise _unsupported(f"whose data is no JSON object{named}: {excerpt(text)}")
    return text.removeprefix("\ufeff")


def _decoded(encoded: object) -> str:
    try:
        if not isinstance(encoded, str):
            raise ValueError("no text")
        content = base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error) as error:
        raise _unsupported(f"whose base64 cannot be decoded: {error}") from error
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        problem = f"the data of a CloudEvent is not UTF-8 at byte {error.start}"
        raise InvalidMessage("encoding", problem) from error


def _unsupported(problem: str) -> InvalidMessage:
    return InvalidMessage("unsupported_envelope", f"a CloudEvent {problem}")
