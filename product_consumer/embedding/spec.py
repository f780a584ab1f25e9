"""Which model the settings ask for, decided without building or downloading it.

OpenCLIP itself forgives weights that were trained with another activation than the model has (it
warns, for tags only). Here that ends with the setting to mend.
"""

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import open_clip
from open_clip.pretrained import get_pretrained_cfg

from product_consumer.errors import ConfigurationError

log = logging.getLogger(__name__)

LOCAL_FILE_HINT = "set it to a local weights file of this model (.safetensors, .bin or .pt)"


EXAMPLE_MODEL = "ViT-L-14-336"
QUICK_GELU_MODELS = frozenset({"ViT-L-14-336"})
"""Models whose published weights were trained with QuickGELU, which OpenCLIP's configuration of
that name does not say."""


class ModelSettings(Protocol):
    """The settings that choose a model: those of ``Settings``, or of a benchmark that has nothing
    but PyTorch and OpenCLIP at hand."""

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
    """Which model is to be built, decided from the settings without building or downloading it."""

    name: str
    quick_gelu: bool
    preprocess: dict[str, Any]
    """What differs from OpenCLIP's default: ``mean``, ``std``, ``resize_mode`` and the like."""
    weights: str | Path
    """One of OpenCLIP's pretrained tags, or a local file."""
    config_setting: str
    """The setting to name when the model's configuration does not work."""
    config_digest: str
    """8 hex digits of the configuration given by the operator, empty for one of OpenCLIP's own."""


def resolve_model(settings: ModelSettings) -> ModelSpec:
    """Decide model, weights and activation; downloads and builds nothing.

    Raises ``ConfigurationError`` when a name, tag, file or configuration does not exist, or when
    the weights of a tag were trained with another activation than the model would have.
    """
    name, config_setting = settings.openclip_model.replace("/", "-"), "OPENCLIP_MODEL"
    preprocess: dict[str, Any] = {}
    digest = ""
    if settings.openclip_config is not None:
        config_path = settings.openclip_config.expanduser()
        given = _read_config(config_path)
        # add_model_config() would skip a hub repository's file without a word.
        open_clip.factory._MODEL_CONFIGS[config_path.stem] = given.get("model_cfg", given)
        if "openclip_model" not in settings.model_fields_set:
            name = config_path.stem
        if name == config_path.stem:
            config_setting = "OPENCLIP_CONFIG"
            preprocess = given.get("preprocess_cfg", {})
            digest = hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:8]
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
    weights = spec.weights
    if isinstance(weights, Path):
        with weights.open("rb") as file:
            weights = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    parts = [spec.name, weights, _activation(spec.quick_gelu).lower(), spec.config_digest]
    return "/".join(part for part in parts if part)


def unusable_config(
    spec: ModelSpec, error: Exception, needs: str = " what does not work here"
) -> ConfigurationError:
    return ConfigurationError(
        spec.config_setting,
        f"the configuration of {spec.name} asks for{needs}"
        f" ({type(error).__name__}: {first_line(error)})",
    )


def first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300] if lines else type(error).__name__


def _read_config(path: Path) -> dict[str, Any]:
    """Read a model configuration, or the ``open_clip_config.json`` of a hub repository, which holds
    one under ``model_cfg`` and the preprocessing under ``preprocess_cfg``."""
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError("OPENCLIP_CONFIG", f"cannot read {path}: {error}") from error
    required = ("embed_dim", "vision_cfg", "text_cfg")
    config = given.get("model_cfg", given) if isinstance(given, dict) else None
    if (
        not isinstance(config, dict)
        or not all(key in config for key in required)
        or not isinstance(given.get("preprocess_cfg", {}), dict)
    ):
        raise ConfigurationError(
            "OPENCLIP_CONFIG",
            f"{path} is not a model configuration of OpenCLIP: it needs {', '.join(required)}",
        )
    return dict(given)


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
    # By the resolved name: a configuration of the operator's own stands in for the default model.
    return name in QUICK_GELU_MODELS or bool(config.get("quick_gelu"))


def _check_activation(settings: ModelSettings, what: str, trained: bool, built: bool) -> None:
    if trained == built:
        return
    found = f"{what} was trained with {_activation(trained)}, not {_activation(built)}"
    if settings.openclip_quick_gelu is None:
        raise ConfigurationError(
            "OPENCLIP_QUICK_GELU", f"{found}: set it to {str(trained).lower()}"
        )
    log.warning("%s, as OPENCLIP_QUICK_GELU asks: embeddings will be slightly wrong", found)


def _tag_or_file(name: str, pretrained: str) -> str | Path:
    tags = open_clip.list_pretrained_tags_by_model(name)
    tag = pretrained.lower().replace("-", "_")
    if tag in tags:
        return tag
    path = Path(pretrained).expanduser()
    if path.is_file():
        return path
    known = f"its tags are {', '.join(tags)}" if tags else "it has no tags"
    found = "a directory" if path.is_dir() and pretrained else "neither a tag nor a file"
    raise ConfigurationError(
        "OPENCLIP_PRETRAINED", f"{pretrained!r} is {found} for {name} ({known}); {LOCAL_FILE_HINT}"
    )


def _activation(quick_gelu: bool) -> str:
    return "QuickGELU" if quick_gelu else "GELU"
