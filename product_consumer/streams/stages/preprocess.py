"""The stage ``preprocess``: whatever producers send -> what a model takes, small and uniform."""

import json

from product_consumer.embedding.preprocessing import ImageResizer
from product_consumer.errors import InvalidMessage, RejectMessage
from product_consumer.streams.headers import IMAGE_SIZE
from product_consumer.streams.records import Record
from product_consumer.streams.stages.base import Items, StageBatch
from product_consumer.streams.stages.contents import Picture, Row, Words, read_content
from product_consumer.streams.stages.guard import StageGuard
from product_consumer.streams.stages.item import JSON_TYPE, Result, StageItem
from product_consumer.streams.stages.pictures import PictureDecoder

PIXELS_TYPE = "application/octet-stream"
TEXT_TYPE = "text/plain"


class Preprocess:
    """Pictures become raw pixels of the model's size, texts NFC, records numbers only."""

    name = "preprocess"

    def __init__(
        self,
        pictures: PictureDecoder,
        resizer: ImageResizer,
        guard: StageGuard,
        *,
        max_image_bytes: int,
    ) -> None:
        self._pictures = pictures
        self._resizer = resizer
        self._guard = guard
        self._max_image_bytes = max_image_bytes

    def work(self, batch: StageBatch, items: Items) -> Items:
        """See ``Stage``."""
        with batch.stage("validate"):
            read = batch.each("read", items, self._read)
            pictures = [item for item in read if isinstance(item.content, Picture)]
            others = [item for item in read if not isinstance(item.content, Picture)]
            finished = batch.each("preprocess", others, _finish)
        return finished + self._guard.run(batch, pictures, self._shrink)

    def finished(self, items: Items) -> None:
        """See ``Stage``."""

    def wait_until_ready(self) -> bool:
        """See ``Stage``."""
        return self._guard.wait_until_ready()

    def _read(self, item: StageItem) -> None:
        item.content = content = read_content(item.message, self._max_image_bytes)
        if isinstance(content, Picture):
            item.kind, item.given_name = "image", content.filename
        elif isinstance(content, Words | Row):
            item.kind = "text" if isinstance(content, Words) else "record"
        else:
            raise RejectMessage("kind_unsupported", "features need no preprocessing")

    def _shrink(self, batch: StageBatch, items: Items, *, alone: bool = False) -> Items:
        with batch.stage("prepare"):
            return batch.each("preprocess", items, self._shrink_one)

    def _shrink_one(self, item: StageItem) -> None:
        pixels = self._pictures.decode(item.content, self._resizer.shorter_side_pixels)
        small = self._resizer.resize(pixels)
        item.content = None
        size = [int(side) for side in small.shape]
        item.result = Result(
            "image",
            small.tobytes(),
            PIXELS_TYPE,
            row=json.dumps({"kind": "image", "image_size": size, "source": item.source}),
            headers={"kind": "image", IMAGE_SIZE: size},
        )


def _finish(item: StageItem) -> None:
    if isinstance(item.content, Words):
        item.result = _text_result(item, item.content.text)
    else:
        item.result = _record_result(item, item.content.record)


def _text_result(item: StageItem, text: str) -> Result:
    row = json.dumps({"kind": "text", "text": text, "source": item.source})
    return Result("text", text, TEXT_TYPE, row, headers={"kind": "text"})


def _record_result(item: StageItem, record: Record) -> Result:
    numbers = {
        name: value
        for name, value in record.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    if not numbers:
        raise InvalidMessage("record_without_numbers", f"{len(record)} columns, none a number")
    body = json.dumps(numbers, allow_nan=False)
    row = json.dumps({"kind": "record", "record": numbers, "source": item.source})
    return Result("record", body, JSON_TYPE, row, headers={"kind": "record"})
