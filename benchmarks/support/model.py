"""A model with the image size of ViT-L-14-336 and a forward pass that is almost free."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from tests.support.tiny_clip import draw_weights

NAME = "thin-336"
CONFIG: dict[str, Any] = {
    "embed_dim": 768,
    "vision_cfg": {
        "image_size": 336,
        "layers": 1,
        "width": 32,
        "head_width": 32,
        "patch_size": 112,
    },
    "text_cfg": {
        "context_length": 77,
        "vocab_size": 49408,
        "width": 32,
        "heads": 1,
        "layers": 1,
    },
}
DESCRIPTION = (
    "one layer of width 32 in each tower, 336 x 336 pixels in patches of 112, 768 numbers per "
    "embedding, random weights"
)


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Values for ``OPENCLIP_CONFIG`` and ``OPENCLIP_PRETRAINED``."""

    config: Path
    weights: Path


def write_model(directory: Path, seed: int = 0) -> ModelFiles:
    """Write the configuration and weights drawn from ``seed``, the same for every process."""
    files = ModelFiles(directory / f"{NAME}.json", directory / f"{NAME}.safetensors")
    files.config.write_text(json.dumps(CONFIG), encoding="utf-8")
    save_file(draw_weights(CONFIG, seed), files.weights)
    return files
