"""The streams of messages that a worker can consume, and where each stream's messages come from."""

from dataclasses import dataclass, field
from enum import StrEnum

from product_consumer.errors import ConfigurationError


class StreamName(StrEnum):
    """What a worker can consume."""

    PRODUCTS = "products"
    ORDERS = "orders"


# For each stream the names of its queue's URL and of its dead-letter queue's, the newest first; the
# last are those that every version reads.
QUEUE_SETTINGS = {
    StreamName.PRODUCTS: (
        ("QUEUE_URL", "DEAD_LETTER_QUEUE_URL"),
        ("SQS_QUEUE_URL", "SQS_DEAD_LETTER_QUEUE_URL"),
    ),
    StreamName.ORDERS: (("ORDERS_QUEUE_URL", "ORDERS_DEAD_LETTER_QUEUE_URL"),),
}


@dataclass(frozen=True, slots=True)
class QueueAddress:
    """Where a stream's messages come from. URLs may hold a password and are never printed."""

    stream: StreamName
    url: str | None = field(repr=False)
    """None where no setting names the queue."""
    dead_letter_url: str | None = field(repr=False)
    """None where no setting names the dead-letter queue; the queue may know it."""
    url_setting: str
    """The setting that names the queue, by its newest name where none is set."""
    dead_letter_url_setting: str
    url_setting_names: str
    """Every name of that setting, for a person: ``A or B``."""

    def require_url(self) -> str:
        """Return the URL; raise ``ConfigurationError`` where none is set."""
        if self.url is None:
            problem = f"not set: the {self.stream} need a queue (set {self.url_setting_names})"
            raise ConfigurationError(self.url_setting, problem)
        return self.url
