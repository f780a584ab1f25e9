"""One message on its way through a stage, and the result that the stage makes of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from product_consumer.models import Message
from product_consumer.outcomes import Outcome
from product_consumer.streams.headers import FILE_NAME

JSON_TYPE = "application/json"
UNKNOWN_KIND = "unknown"
MAX_FILENAME_CHARACTERS = 1000
"""A longer file name is no file name; it is left out of results."""

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True, slots=True)
class Result:
    """What a stage made of one message: the body and headers of the message that it sends."""

    kind: str
    """What it is: ``image``, ``text``, ``record``, ``image_features``, ``classification`` ..."""
    body: str | bytes
    content_type: str
    row: str
    """The result in the table: JSON text."""
    headers: Mapping[str, object] = field(default_factory=dict)
    model: str | None = None
    """The model that made it, as ``Embedder.model_id`` names it."""


@dataclass(slots=True, eq=False)
class StageItem:
    """A message on its way through a stage. For one thread at a time.

    Its correlation id is the property of that name, else the message id, else a new UUID.
    """

    message: Message
    outcome: Outcome | None = None
    kind: str = UNKNOWN_KIND
    """What the result is, or would have been; a stage sets it as soon as it knows."""
    result: Result | None = None
    content: Any = field(default=None, repr=False)
    """For the stage: what it has made of the message so far."""
    given_name: str | None = None
    """The file name within the body, for messages whose headers have none."""
    correlation_id: str = field(init=False)

    def __post_init__(self) -> None:
        envelope = self.message.envelope
        self.correlation_id = envelope.correlation_id or envelope.message_id or str(uuid4())

    @property
    def filename(self) -> str | None:
        """The file that the message came from, where its header or its body says so."""
        for name in (self.message.envelope.headers.get(FILE_NAME), self.given_name):
            if isinstance(name, str) and 0 < len(name) <= MAX_FILENAME_CHARACTERS:
                return name
        return None

    @property
    def source(self) -> dict[str, Any]:
        """The ``source`` of a result in JSON."""
        return {"filename": self.filename}

    def finish(self, kind: str, model: str | None = None, **fields: Any) -> None:
        """Set a result in JSON: its kind, the correlation id, the model if there is one, fields.

        Raises ``ValueError`` for a number that JSON does not have.
        """
        value = {"kind": kind, "correlation_id": self.correlation_id}
        body = _ENCODER.encode(value | ({} if model is None else {"model": model}) | fields)
        if not body.isascii():
            # Half a character, which a producer may write as an escape, has no UTF-8.
            body = body.encode("utf-8", "replace").decode()
        self.kind = kind
        self.result = Result(kind, body, JSON_TYPE, row=body, headers={"kind": kind}, model=model)
