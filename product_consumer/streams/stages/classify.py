"""The stage ``classify``: the label of each picture or text, without training for the labels."""

from product_consumer.errors import RejectMessage
from product_consumer.streams.labels.scoring import LabelScorer
from product_consumer.streams.stages.base import Items, StageBatch
from product_consumer.streams.stages.contents import Features, Picture, Words
from product_consumer.streams.stages.features import Embedding
from product_consumer.streams.stages.item import StageItem

CLASSIFICATION = "classification"


class Classify:
    """Scores of all labels. Features of another stage are taken as they are."""

    name = "classify"

    def __init__(self, embedding: Embedding, scorer: LabelScorer) -> None:
        self._embedding = embedding
        self._scorer = scorer

    def work(self, batch: StageBatch, items: Items) -> Items:
        """See ``Stage``."""
        with batch.stage("validate"):
            read = batch.each("read", items, self._read)
        known = [item for item in read if isinstance(item.content, Features)]
        others = [item for item in read if not isinstance(item.content, Features)]
        embedded = known + self._embedding.embed(batch, others)
        with batch.stage("classify"):
            return batch.each("classify", embedded, self._classify)

    def finished(self, items: Items) -> None:
        """See ``Stage``."""

    def wait_until_ready(self) -> bool:
        """See ``Stage``."""
        return self._embedding.wait_until_ready()

    def _read(self, item: StageItem) -> None:
        item.kind = CLASSIFICATION
        content = self._embedding.read(item)
        if isinstance(content, Features):
            self._scorer.check(content.vector, content.model)
        elif not isinstance(content, Picture | Words):
            raise RejectMessage("kind_unsupported", "neither features, nor a picture, nor a text")

    def _classify(self, item: StageItem) -> None:
        features: Features = item.content
        scores = self._scorer.scores(features.vector)
        item.finish(
            CLASSIFICATION,
            self._scorer.model_id,
            labels=[{"label": label, "score": score} for label, score in scores.best],
            label=scores.label,
            score=scores.score,
            source=item.source,
        )
