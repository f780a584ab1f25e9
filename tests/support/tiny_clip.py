"""Small untrained OpenCLIP models in files: real towers, random weights."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file


@dataclass(frozen=True, slots=True)
class TinyClip:
    """The files and the name of a model: values for the ``OPENCLIP_...`` settings."""

    config_path: Path
    weights_path: Path
    model_name: str

    @property
    def settings(self) -> dict[str, Any]:
        """Field values for ``Settings`` that select this model on the CPU."""
        return {
            "openclip_config": self.config_path,
            "openclip_pretrained": str(self.weights_path),
            "device": "cpu",
        }


def make_tiny_clip(
    directory: Path,
    *,
    quick_gelu: bool = False,
    seed: int = 0,
    name: str = "tiny-clip",
    embed_dim: int = 768,
    suffix: str = ".safetensors",
    preprocess: Mapping[str, Any] | None = None,
    text_changes: Mapping[str, Any] | None = None,
) -> TinyClip:
    """Write ``<name>.json`` and its weights (3.5 million, drawn from ``seed``) into ``directory``.

    ``suffix``: ``.safetensors`` or ``.pt``. With ``preprocess`` the configuration is in the form of
    a hub repository, which carries preprocessing (``mean``, ``std``, ``resize_mode`` ...) too.
    ``text_changes``: other values of its ``text_cfg``.
    """
    config = model_config(embed_dim, quick_gelu)
    config["text_cfg"] |= text_changes or {}
    written = {"model_cfg": config, "preprocess_cfg": dict(preprocess)} if preprocess else config
    config_path = directory / f"{name}.json"
    config_path.write_text(json.dumps(written), encoding="utf-8")
    weights_path = directory / f"{name}{suffix}"
    weights = draw_weights(config, seed)
    if suffix == ".safetensors":
        save_file(weights, weights_path)
    else:
        torch.save(weights, weights_path)
    return TinyClip(config_path, weights_path, name)


def model_config(embed_dim: int = 768, quick_gelu: bool = False) -> dict[str, Any]:
    """Return a configuration of 64 x 64 pixels and two layers of width 64 in each tower."""
    config: dict[str, Any] = {
        "embed_dim": embed_dim,
        "vision_cfg": {
            "image_size": 64,
            "layers": 2,
            "width": 64,
            "head_width": 32,
            "patch_size": 16,
        },
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 64,
            "heads": 2,
            "layers": 2,
        },
    }
    return config | {"quick_gelu": True} if quick_gelu else config


def draw_weights(config: Mapping[str, Any], seed: int) -> dict[str, torch.Tensor]:
    """Return random weights by name; the same seed always gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.CLIP(**config)
    # Untrained towers give nearly the same embedding for everything; larger weights spread them.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3.0)
    return {key: value.contiguous() for key, value in model.state_dict().items()}
