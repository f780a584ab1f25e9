"""The base of the parsers of all streams."""

from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

from product_consumer.errors import InvalidMessage
from product_consumer.messages.envelopes import open_body
from product_consumer.messages.fields import check_currency, check_zone
from product_consumer.models import Message
from product_consumer.text import excerpt

_ENCODINGS = ("", "utf-8", "utf8", "identity")


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageParser:
    """The base class of parsers: their settings, checked once. Threads may share it.

    ``default_currency``: ISO 4217 code for prices that name none; empty rejects them.
    ``source_timezone``: IANA name of the zone of times that name none.
    Raises ``ConfigurationError`` when either does not exist.
    """

    default_currency: str
    source_timezone: str
    _zone: ZoneInfo = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_currency(self.default_currency)
        object.__setattr__(self, "_zone", check_zone(self.source_timezone))

    @staticmethod
    def open(message: Message) -> dict[str, Any]:
        """Return the object in a message; raises as ``open_body``, and for a compressed body."""
        encoding = message.envelope.content_encoding
        if encoding.strip().lower() not in _ENCODINGS:
            raise InvalidMessage("content_encoding", f"not read: {excerpt(encoding)}")
        return open_body(message.body)
