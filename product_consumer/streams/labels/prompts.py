"""The prompts of a label that brings none: the ensembles of OpenCLIP's own zero-shot evaluation."""

from collections.abc import Sequence
from enum import StrEnum


class Templates(StrEnum):
    """An ensemble: the more prompts, the longer the first start takes."""

    SIMPLE = "simple"
    """7 prompts."""
    OPENAI = "openai"
    """80 prompts."""


def prompts_of(label: str, own: Sequence[str], templates: Templates) -> list[str]:
    """Return the prompts of a label: its own, else those of the ensemble."""
    # Imported here: OpenCLIP loads torch, which takes seconds.
    from open_clip import zero_shot_metadata as ensembles

    is_simple = templates is Templates.SIMPLE
    makers = (
        ensembles.SIMPLE_IMAGENET_TEMPLATES if is_simple else ensembles.OPENAI_IMAGENET_TEMPLATES
    )
    return list(own) or [make(label) for make in makers]
