"""Loads an OpenCLIP model with weights that are known to belong to it, or refuses to start.

OpenCLIP accepts missing weights, weights of another activation and towers that do not fit together.
Each would spoil every embedding, so each is refused here by the name of the setting to fix.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2

from product_consumer.embedding.half_precision import tune
from product_consumer.embedding.spec import (
    ModelSettings,
    ModelSpec,
    model_id,
    resolve_model,
    unusable_config,
)
from product_consumer.embedding.weights import fill, find_weights
from product_consumer.errors import ConfigurationError, FatalError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model with its weights in place, in evaluation mode on ``device``."""

    model: Any
    """``encode_image`` takes pixels of ``dtype``, shape (count, 3, height, width); ``encode_text``
    takes token ids, int64, shape (count, context)."""
    model_id: str
    described: str
    """Model, weights and precision, for people."""
    dimension: int
    device: torch.device
    dtype: torch.dtype
    preprocess: PreprocessCfg
    transform: Any
    """OpenCLIP's own evaluation transform, a torchvision ``Compose``."""
    tokenizer: Callable[[str], torch.Tensor]
    """Text -> token ids, int64, shape (1, context)."""
    context_length: int
    logit_scale: float
    """What a cosine is multiplied by before a softmax over texts; learnt in training."""


def load_model(settings: ModelSettings, dtype: torch.dtype | None = None) -> LoadedModel:
    """Build the model that the settings name and load its weights; takes seconds to minutes.

    ``dtype``: the precision to compute in; None leaves it to ``choose_dtype``.
    Raises ``ConfigurationError`` naming the setting that does not work, and ``FatalError`` when
    the device has no memory left for the model.
    """
    spec = resolve_model(settings)
    device = choose_device(settings.device)
    log.info("Using %s", device)
    log.info("Loading OpenCLIP %s", spec.name)
    weights = find_weights(spec)
    dtype = dtype or choose_dtype(device)
    try:
        with _tame_open_clip():
            model = build_model(spec, device)
            fill(model, weights, spec)
            # Before the precision changes: the scale is the exponential of what is stored.
            logit_scale = float(model.logit_scale.detach().double().exp().mean())
            tune(model, dtype)
            tokenizer = _make_tokenizer(spec)
            preprocess, transform = _make_transform(model, spec)
            dimension = _probe(model, tokenizer, spec, device, dtype)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise FatalError(f"no memory on {device} for {spec.name}: {error}") from error
    return LoadedModel(
        model=model,
        model_id=model_id(spec),
        described=f"{spec.name} with the weights {spec.weights} in {precision(dtype)}",
        dimension=dimension,
        device=device,
        dtype=dtype,
        preprocess=preprocess,
        transform=transform,
        tokenizer=tokenizer,
        context_length=int(model.context_length),
        logit_scale=logit_scale,
    )


def choose_device(name: str) -> torch.device:
    """Return the device of the setting; ``auto`` takes CUDA, then MPS, then the CPU.

    Raises ``ConfigurationError`` for an absent device.
    """
    if name == "auto":
        name = "cpu"
        if torch.backends.mps.is_available():
            name = "mps"
        if torch.cuda.is_available():
            name = "cuda"
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise ConfigurationError(
                "DEVICE", f"{name!r} was asked for, but PyTorch sees {count} CUDA devices here"
            )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigurationError("DEVICE", "'mps' was asked for, but PyTorch has no MPS here")
    return device


def choose_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 for CUDA from compute capability 8.0, float16 below, float32 elsewhere.

    Below 8.0 bfloat16 is emulated.
    """
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16


def precision(dtype: torch.dtype) -> str:
    """Return the name of a precision as people write it: ``float16``."""
    return str(dtype).removeprefix("torch.")


def build_model(spec: ModelSpec, device: torch.device) -> Any:
    """Build the architecture on ``device`` in float32, without its weights.

    Raises ``ConfigurationError`` for a configuration that OpenCLIP cannot build.
    """
    preprocess = {key: value for key, value in spec.preprocess.items() if key != "size"}
    try:
        model = open_clip.create_model(
            spec.name,
            device=device,
            pretrained_text=False,
            force_preprocess_cfg=preprocess,
            quick_gelu=spec.quick_gelu,
        )
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        raise unusable_config(spec, error) from error
    return model.eval().requires_grad_(False)


def _make_tokenizer(spec: ModelSpec) -> Callable[[str], torch.Tensor]:
    try:
        tokenizer: Callable[[str], torch.Tensor] = open_clip.get_tokenizer(spec.name)
        tokenizer("a name")
    except Exception as error:
        raise unusable_config(spec, error, " a tokenizer that is not on this machine") from error
    return tokenizer


def _make_transform(model: Any, spec: ModelSpec) -> tuple[PreprocessCfg, Any]:
    try:
        preprocess = PreprocessCfg(**model.visual.preprocess_cfg)
        if not len(preprocess.mean) == len(preprocess.std) == 3 or 0 in preprocess.std:
            raise ValueError(f"mean {preprocess.mean} and std {preprocess.std} of three channels")
        return preprocess, image_transform_v2(preprocess, is_train=False)
    except Exception as error:
        raise unusable_config(spec, error) from error


def _probe(
    model: Any, tokenizer: Any, spec: ModelSpec, device: torch.device, dtype: torch.dtype
) -> int:
    """Run each tower once and return the length of their embeddings, which must agree."""
    height, width = PreprocessCfg(**model.visual.preprocess_cfg).input_size[1:]
    pixels = torch.zeros(1, 3, height, width, dtype=dtype, device=device)
    try:
        with torch.inference_mode():
            shapes = [
                tuple(model.encode_image(pixels).shape),
                tuple(model.encode_text(tokenizer("a name").to(device)).shape),
            ]
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        raise unusable_config(spec, error) from error
    if shapes[0] != shapes[1] or len(shapes[0]) != 2:
        raise ConfigurationError(
            spec.config_setting, f"{spec.name} gives image and text embeddings of shapes {shapes}"
        )
    return int(shapes[0][1])


@contextmanager
def _tame_open_clip() -> Iterator[None]:
    """Keep OpenCLIP's log lines and warnings out of our log.

    OpenCLIP logs to the root logger, for example that it has no weights, which are loaded later.
    Real problems are checked here and raised. Its line ``Resizing ...`` is kept: it tells that
    weights of another image or text size were adapted.
    """

    def is_kept(record: logging.LogRecord) -> bool:
        return Path(record.pathname).parent.name != "open_clip" or str(record.msg).startswith(
            "Resizing"
        )

    root = logging.getLogger()
    root.addFilter(is_kept)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.removeFilter(is_kept)
