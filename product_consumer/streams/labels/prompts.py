"""The prompts of a label that brings none: the ensembles of OpenCLIP's own zero-shot evaluation."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final

from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES, SIMPLE_IMAGENET_TEMPLATES


class Templates(StrEnum):
    """An ensemble: the more prompts, the longer the first start takes."""

    SIMPLE = "simple"
    """7 prompts."""
    OPENAI = "openai"
    """80 prompts."""


_TEMPLATES: Final[dict[Templates, Sequence[Callable[[str], str]]]] = {
    Templates.SIMPLE: SIMPLE_IMAGENET_TEMPLATES,
    Templates.OPENAI: OPENAI_IMAGENET_TEMPLATES,
}


def prompts_of(label: str, own: Sequence[str], templates: Templates) -> list[str]:
    """Return the prompts of a label: its own, else those of the ensemble."""
    return list(own) or [template(label) for template in _TEMPLATES[templates]]
