"""Decides which model the settings ask for, without building or downloading it.

OpenCLIP accepts weights that were trained with another activation than the model has; it warns, for
tags only. Here such weights are refused by the name of the setting to fix.
"""

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import open_clip
from open_clip.pretrained import get_pretrained_cfg
from open_clip.transform import PreprocessCfg, merge_preprocess_dict

from product_consumer.errors import ConfigurationError

log = logging.getLogger(__name__)

LOCAL_FILE_HINT = "set it to a local weights file of this model (.safetensors, .bin or .pt)"

EXAMPLE_MODEL = "ViT-L-14-336"
QUICK_GELU_MODELS = frozenset({"ViT-L-14-336"})
"""Models whose published weights were trained with QuickGELU, although OpenCLIP's configuration of
the same name does not say so."""


class ModelSettings(Protocol):
    """The settings that choose a model.

    ``Settings`` has them, and so has a benchmark that runs with PyTorch and OpenCLIP alone.
    """

    @property
    def openclip_model(self) -> str: ...

    @property
    def openclip_pretrained(self) -> str: ...

    @property
    def openclip_config(self) -> Path | None: ...

    @property
    def openclip_quick_gelu(self) -> bool | None: ...

    @property
    def device(self) -> str: ...

    @property
    def model_fields_set(self) -> set[str]: ...


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model that the settings ask for, not built or downloaded yet."""

    name: str
    quick_gelu: bool
    preprocess: dict[str, Any]
    """Differences from OpenCLIP's default: ``mean``, ``std``, ``resize_mode`` and the like."""
    weights: str | Path
    """One of OpenCLIP's pretrained tags, or a local file."""
    config_setting: str
    """The setting to name when the model's configuration does not work."""
    config_digest: str
    """8 hex digits of the operator's own configuration; empty for a configuration of OpenCLIP."""


def resolve_model(settings: ModelSettings) -> ModelSpec:
    """Decide model, weights and activation; downloads and builds nothing.

    Raises ``ConfigurationError`` when a name, tag, file or configuration does not exist. Raises it
    too when the weights of a tag were trained with another activation than the model would have.
    """
    name, config_setting = settings.openclip_model.replace("/", "-"), "OPENCLIP_MODEL"
    preprocess: dict[str, Any] = {}
    digest = ""
    if settings.openclip_config is not None:
        config_path = settings.openclip_config.expanduser()
        config_file = _read_config(config_path)
        # add_model_config() would silently skip the file of a hub repository.
        open_clip.factory._MODEL_CONFIGS[config_path.stem] = config_file.get(
            "model_cfg", config_file
        )
        if "openclip_model" not in settings.model_fields_set:
            name = config_path.stem
        if name == config_path.stem:
            config_setting = "OPENCLIP_CONFIG"
            preprocess = config_file.get("preprocess_cfg", {})
            canonical = json.dumps(config_file, sort_keys=True)
            digest = hashlib.sha256(canonical.encode()).hexdigest()[:8]
        else:
            log.warning("OPENCLIP_CONFIG is not used: OPENCLIP_MODEL names %s", name)
    config = _model_config(name)
    quick_gelu = _quick_gelu(settings, name, config)
    weights = _tag_or_file(name, settings.openclip_pretrained)
    if isinstance(weights, str):
        tag_config = get_pretrained_cfg(name, weights)
        trained = bool(tag_config.get("quick_gelu"))
        _check_activation(settings, f"{name}/{weights}", trained, quick_gelu)
        preprocess = tag_config | preprocess
    return ModelSpec(name, quick_gelu, preprocess, weights, config_setting, digest)


def model_id(spec: ModelSpec) -> str:
    """Return the name of the model's embeddings; it differs wherever the embeddings could."""
    weights = spec.weights
    if isinstance(weights, Path):
        with weights.open("rb") as file:
            weights = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    names = [spec.name, weights, _activation(spec.quick_gelu).lower(), spec.config_digest]
    return "/".join(name for name in names if name)


def preprocessing_of(spec: ModelSpec) -> PreprocessCfg:
    """Return how the model's images are prepared, as OpenCLIP would set it when it builds it.

    Raises ``ConfigurationError`` for a configuration that OpenCLIP cannot use.
    """
    try:
        vision = _model_config(spec.name)["vision_cfg"]
        changes = {"size": vision.get("image_size", PreprocessCfg.size)}
        changes |= {key: value for key, value in spec.preprocess.items() if key != "size"}
        return PreprocessCfg(**merge_preprocess_dict(PreprocessCfg(), changes))
    except ConfigurationError:
        raise
    except Exception as error:
        raise unusable_config(spec, error) from error


def unusable_config(
    spec: ModelSpec, error: Exception, needs: str = " what does not work here"
) -> ConfigurationError:
    """Return the error of a configuration that OpenCLIP cannot build; names its setting."""
    return ConfigurationError(
        spec.config_setting,
        f"the configuration of {spec.name} asks for{needs}"
        f" ({type(error).__name__}: {first_line(error)})",
    )


def first_line(error: BaseException) -> str:
    """Return the first two lines of an error as one, at most 300 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300] if lines else type(error).__name__


def _read_config(path: Path) -> dict[str, Any]:
    """Read a model configuration, or the ``open_clip_config.json`` of a hub repository.

    The latter holds the configuration under ``model_cfg``, preprocessing under ``preprocess_cfg``.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError("OPENCLIP_CONFIG", f"cannot read {path}: {error}") from error
    required = ("embed_dim", "vision_cfg", "text_cfg")
    config = content.get("model_cfg", content) if isinstance(content, dict) else None
    if (
        not isinstance(config, dict)
        or not all(key in config for key in required)
        or not isinstance(content.get("preprocess_cfg", {}), dict)
    ):
        raise ConfigurationError(
            "OPENCLIP_CONFIG",
            f"{path} is not a model configuration of OpenCLIP: it needs {', '.join(required)}",
        )
    return dict(content)


def _model_config(name: str) -> dict[str, Any]:
    try:
        config = None if ":" in name else open_clip.get_model_config(name)
    except Exception as error:
        raise ConfigurationError("OPENCLIP_MODEL", f"{name!r}: {first_line(error)}") from error
    if config is None:
        raise ConfigurationError(
            "OPENCLIP_MODEL",
            f"{name!r} is not a model of OpenCLIP (such as {EXAMPLE_MODEL}); for a configuration"
            " of your own set OPENCLIP_CONFIG to its file",
        )
    return dict(config)


def _quick_gelu(settings: ModelSettings, name: str, config: dict[str, Any]) -> bool:
    if settings.openclip_quick_gelu is not None:
        return settings.openclip_quick_gelu
    # By the resolved name: the operator's own configuration replaces the default model.
    return name in QUICK_GELU_MODELS or bool(config.get("quick_gelu"))


def _check_activation(settings: ModelSettings, what: str, trained: bool, built: bool) -> None:
    if trained == built:
        return
    mismatch = f"{what} was trained with {_activation(trained)}, not {_activation(built)}"
    if settings.openclip_quick_gelu is None:
        raise ConfigurationError(
            "OPENCLIP_QUICK_GELU", f"{mismatch}: set it to {str(trained).lower()}"
        )
    log.warning("%s, as OPENCLIP_QUICK_GELU asks: embeddings will be slightly wrong", mismatch)


def _tag_or_file(name: str, pretrained: str) -> str | Path:
    tags = open_clip.list_pretrained_tags_by_model(name)
    tag = pretrained.lower().replace("-", "_")
    if tag in tags:
        return tag
    path = Path(pretrained).expanduser()
    if path.is_file():
        return path
    known = f"its tags are {', '.join(tags)}" if tags else "it has no tags"
    kind = "a directory" if path.is_dir() and pretrained else "neither a tag nor a file"
    raise ConfigurationError(
        "OPENCLIP_PRETRAINED", f"{pretrained!r} is {kind} for {name} ({known}); {LOCAL_FILE_HINT}"
    )


def _activation(quick_gelu: bool) -> str:
    return "QuickGELU" if quick_gelu else "GELU"
