"""The names of the stages."""

from enum import StrEnum


class StageName(StrEnum):
    """A step of a model pipeline."""

    PREPROCESS = "preprocess"
    FEATURES = "features"
    CLASSIFY = "classify"
    ANOMALY = "anomaly"
