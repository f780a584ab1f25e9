"""The values that packages pass to each other: frozen, without I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from product_consumer.vectors import Embedding, combine

VECTOR_FIELDS = ("text", "image", "combined")
"""The embeddings of a product, as ``MILVUS_VECTOR_FIELDS`` names them."""

MAX_ID_BYTES = 512
"""Longest id of a product, order or user, in bytes of UTF-8: Elasticsearch's limit of ``_id``.
https://www.elastic.co/guide/en/elasticsearch/reference/8.19/mapping-id-field.html
"""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a message says of itself beside its body, where its queue carries such things.

    Empty where nothing is said. All of it was written by a producer, so nothing of it is trusted.
    """

    message_id: str = ""
    content_type: str = ""
    content_encoding: str = ""
    correlation_id: str = ""
    reply_to: str = ""
    """The queue that an answer goes to."""
    kind: str = ""
    app_id: str = ""
    priority: int | None = None
    timestamp: datetime | None = None
    headers: Mapping[str, object] = field(default_factory=dict)
    """Of any type: text, numbers, bytes, lists, nested."""
    not_copied: tuple[str, ...] = ()
    """Names of what the message has and a copy of it must not have, or cannot."""


NO_ENVELOPE = Envelope()


@dataclass(frozen=True, slots=True)
class Message:
    """One delivery of a queue: a body, and the handle that settles it."""

    message_id: str
    receipt_handle: str
    body: str | bytes
    """Text from SQS; bytes from a queue that does not promise text."""
    receive_count: int
    """Deliveries so far, this one included (SQS ``ApproximateReceiveCount``)."""
    sent_at: datetime
    """When the queue accepted it, UTC."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Message attributes that are text."""
    envelope: Envelope = NO_ENVELOPE
    is_sent_time_known: bool = True
    """False where the queue has none: ``sent_at`` is the time of this delivery then."""


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """How new a message of a product is: of two versions, compared by field, the greater is newer.

    ``rank`` 2: ``version`` of the body; 1: an event time of the body, in epoch microseconds; 0: the
    queue's sent time in epoch microseconds (or ``original_version`` after a redrive).
    ``payload_hash`` breaks ties the same way everywhere.
    """

    rank: int
    value: int
    payload_hash: str


@dataclass(frozen=True, slots=True)
class Product:
    """A valid product message, normalised.

    ``deleted``: a tombstone, which has only an id and a version.
    """

    id: str
    version: Version
    observed_at: datetime
    """Event time, UTC: ``updated_at``, else ``timestamp``, else the queue's sent time."""
    name: str = ""
    image_url: str = ""
    store_url: str | None = None
    price_minor: int | None = None
    """Integer amount in the currency's minor unit; None when unknown."""
    currency: str | None = None
    """ISO 4217 code; None exactly when the price is unknown."""
    rating: float | None = None
    reviews_count: int | None = None
    description: str | None = None
    category: str | None = None
    brand: str | None = None
    deleted: bool = False
    flags: tuple[str, ...] = ()
    """Oddities that were accepted, for the counters: ``price_zero``, ``timezone_assumed`` ..."""


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The embeddings of one product, all of one model."""

    text: Embedding
    image: Embedding

    @property
    def combined(self) -> Embedding:
        """Normalised mean of image and text; the text embedding where the two cancel out."""
        return combine([self.text], [self.image])[0]

    def by_field(self, name: str) -> Embedding:
        """``name`` is one of ``VECTOR_FIELDS``."""
        embedding: Embedding = getattr(self, name)
        return embedding


def embeddings_by_field(embeddings: Sequence[Embeddings], name: str) -> list[Embedding]:
    """The same embedding of many products; ``name`` is one of ``VECTOR_FIELDS``."""
    if name == "combined":
        return combine([pair.text for pair in embeddings], [pair.image for pair in embeddings])
    return [pair.by_field(name) for pair in embeddings]


@dataclass(frozen=True, slots=True)
class ImageSource:
    """The image that an image embedding was computed from.

    Its validators, sent back to the image host, tell whether the image has changed.
    """

    sha256: str
    """Digest of the bytes as downloaded, hex."""
    etag: str | None = None
    last_modified: str | None = None


@dataclass(frozen=True, slots=True)
class ProductRow:
    """The current row of a product in the ledger, which every store must hold.

    That of a deleted product has the newest content known of it. ``embeddings`` is None only there.
    """

    id: str
    revision: int
    deleted: bool
    name: str
    store_url: str | None
    price_minor: int | None
    currency: str | None
    rating: float | None
    reviews_count: int | None
    image_url: str
    last_update: datetime
    embeddings: Embeddings | None


@dataclass(frozen=True, slots=True)
class PriceObservation:
    """One row of ``price_history``."""

    observed_at: datetime
    price_minor: int
    currency: str


@dataclass(frozen=True, slots=True)
class ReviewObservation:
    """One row of ``review_history``."""

    observed_at: datetime
    rating: float
    reviews_count: int


@dataclass(frozen=True, slots=True)
class StoreIdentity:
    """The ledger and model that a store's rows belong to.

    Written into the store at set-up, compared at every start.
    """

    ledger_id: str
    model_id: str
    dimension: int


@dataclass(frozen=True, slots=True)
class Hit:
    """One search result of a store, in a list with the best first.

    ``score`` is comparable only within one list.
    """

    product_id: str
    score: float
    revision: int
