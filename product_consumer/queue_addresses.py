"""The streams that a worker can consume, and the address of each stream's queue."""

from dataclasses import dataclass, field
from enum import StrEnum

from product_consumer.errors import ConfigurationError


class StreamName(StrEnum):
    """The name of a stream: a kind of message with a queue of its own."""

    PRODUCTS = "products"
    ORDERS = "orders"


# For each stream the settings of its queue's URL and of its dead-letter queue's URL, the newest
# first. Every version reads the last.
QUEUE_SETTINGS = {
    StreamName.PRODUCTS: (
        ("QUEUE_URL", "DEAD_LETTER_QUEUE_URL"),
        ("SQS_QUEUE_URL", "SQS_DEAD_LETTER_QUEUE_URL"),
    ),
    StreamName.ORDERS: (("ORDERS_QUEUE_URL", "ORDERS_DEAD_LETTER_QUEUE_URL"),),
}


@dataclass(frozen=True, slots=True)
class QueueAddress:
    """The URLs of a stream's queue and their settings; URLs may hold a password: never printed."""

    stream: StreamName
    url: str | None = field(repr=False)
    """None where no setting names the queue."""
    dead_letter_url: str | None = field(repr=False)
    """None where no setting names it; then the queue itself may name its dead-letter queue."""
    url_setting: str
    """The setting that has the URL; its newest name where none is set."""
    dead_letter_url_setting: str
    url_setting_names: str
    """Every name of that setting, for a person: ``A or B``."""

    def require_url(self) -> str:
        """Return the URL; raise ``ConfigurationError`` where none is set."""
        if self.url is None:
            problem = f"not set: the {self.stream} need a queue (set {self.url_setting_names})"
            raise ConfigurationError(self.url_setting, problem)
        return self.url
