"""Pipeline: the contract between the consumer loop and the work on one kind of message."""

from collections.abc import Sequence
from typing import Protocol

from product_consumer.models import Message
from product_consumer.outcomes import Outcome


class Pipeline(Protocol):
    """The work on one kind of message. Any thread may call it."""

    def process(self, messages: Sequence[Message]) -> list[Outcome]:
        """Return one outcome per message, in order; raises ``FatalError`` only."""
        ...

    def wait_until_ready(self) -> bool:
        """Block while a dependency of every message is down; False when asked to stop."""
        ...
