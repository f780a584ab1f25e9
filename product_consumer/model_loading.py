"""Loads an OpenCLIP model with weights that are known to belong to it, or refuses to start.

OpenCLIP itself forgives three things that would spoil every embedding: no weights (it warns and
leaves random ones), weights trained with another activation (it warns, for tags only), and a hub
that cannot be reached (it retries for most of a minute). Here each ends with the setting to mend.
"""

import hashlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import huggingface_hub
import open_clip
import torch
from huggingface_hub.errors import EntryNotFoundError
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from open_clip.pretrained import download_pretrained, get_pretrained_cfg
from open_clip.transform import PreprocessCfg, image_transform_v2

from product_consumer.errors import ConfigurationError, FatalError
from product_consumer.settings import DEFAULT_MODEL, Settings

log = logging.getLogger(__name__)

HUB_TIMEOUT_SECONDS = 10.0
"""How long the model hub may take to say that it is there, before a download is begun."""

LOCAL_FILE_HINT = "set it to a local weights file of this model (.safetensors, .bin or .pt)"


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


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model with its weights in place, in evaluation mode on ``device``."""

    model: Any
    """``encode_image`` takes (n, 3, height, width) of ``dtype``, ``encode_text`` (n, context)."""
    model_id: str
    dimension: int
    device: torch.device
    dtype: torch.dtype
    preprocess: PreprocessCfg
    transform: Any
    """OpenCLIP's own evaluation transform, a torchvision ``Compose``."""
    tokenizer: Callable[[str], torch.Tensor]
    """Text to token ids of shape (1, context), int64."""
    context_length: int


def load_model(settings: Settings) -> LoadedModel:
    """Build the model the settings name and fill it with its weights; seconds to minutes.

    Raises ``ConfigurationError`` naming the setting that does not work, and ``FatalError`` when
    the device has no memory left for the model.
    """
    spec = resolve_model(settings)
    device = choose_device(settings.device)
    log.info("Using %s", device)
    log.info("Loading OpenCLIP %s", spec.name)
    weights = find_weights(spec)
    try:
        with _tame_open_clip():
            model = build_model(spec, device, choose_precision(device))
            _fill(model, weights, spec)
            tokenizer = _make_tokenizer(spec)
            preprocess, transform = _make_transform(model, spec)
            dimension = _probe(model, tokenizer, spec, device)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise FatalError(f"no memory on {device} for {spec.name}: {error}") from error
    return LoadedModel(
        model=model,
        model_id=_model_id(spec),
        dimension=dimension,
        device=device,
        dtype=_input_dtype(device),
        preprocess=preprocess,
        transform=transform,
        tokenizer=tokenizer,
        context_length=int(model.context_length),
    )


def resolve_model(settings: Settings) -> ModelSpec:
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


def choose_device(wanted: str) -> torch.device:
    """``auto`` takes CUDA, then MPS, then the CPU; ``ConfigurationError`` for an absent device."""
    if wanted == "auto":
        wanted = "cpu"
        if torch.backends.mps.is_available():
            wanted = "mps"
        if torch.cuda.is_available():
            wanted = "cuda"
    device = torch.device(wanted)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise ConfigurationError(
                "DEVICE", f"{wanted!r} was asked for, but PyTorch sees {count} CUDA devices here"
            )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigurationError("DEVICE", "'mps' was asked for, but PyTorch has no MPS here")
    return device


def choose_precision(device: torch.device) -> str:
    """OpenCLIP's name of a precision: ``bf16`` on CUDA from compute capability 8.0, ``fp16`` below
    (bfloat16 is emulated there), ``fp32`` elsewhere."""
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"


def build_model(spec: ModelSpec, device: torch.device, precision: str) -> Any:
    """Build the architecture on ``device``, its weights still to be filled in.

    ``precision`` is one of OpenCLIP's: with ``bf16`` and ``fp16`` the matrix weights are of that
    type and the layer norms stay float32.
    """
    preprocess = {key: value for key, value in spec.preprocess.items() if key != "size"}
    try:
        model = open_clip.create_model(
            spec.name,
            precision=precision,
            device=device,
            pretrained_text=False,
            force_preprocess_cfg=preprocess,
            quick_gelu=spec.quick_gelu,
        )
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        raise _unusable_config(spec, error) from error
    return model.eval().requires_grad_(False)


def find_weights(spec: ModelSpec) -> Path:
    """Return the weights file: the operator's own, the hub's cached one, or one downloaded now.

    The cache is asked first, so that a machine which has the weights starts without a network. The
    hub is asked once whether it is there: its own retries would take most of a minute to give up.
    """
    if isinstance(spec.weights, Path):
        return spec.weights
    tag_config = get_pretrained_cfg(spec.name, spec.weights)
    repository, _, file_name = str(tag_config.get("hf_hub") or "").rpartition("/")
    try:
        if repository:
            files = _hub_files(file_name)
            for name in files:
                cached = huggingface_hub.try_to_load_from_cache(repository, name)
                if isinstance(cached, str):
                    return Path(cached)
            _check_hub_answers(repository, files[0])
        log.info("Downloading the weights %s of %s", spec.weights, spec.name)
        return Path(download_pretrained(tag_config))
    except Exception as error:
        raise ConfigurationError(
            "OPENCLIP_PRETRAINED",
            f"the weights {spec.weights!r} of {spec.name} are not on this machine and cannot be"
            f" downloaded ({_first_line(error)}); {LOCAL_FILE_HINT}, or connect to the model hub",
        ) from error


def _hub_files(file_name: str) -> list[str]:
    """The names under which OpenCLIP looks for weights in a hub repository, in its order."""
    if not file_name or file_name == HF_WEIGHTS_NAME:
        return [HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME]
    return [str(Path(file_name).with_suffix(".safetensors")), file_name]


def _check_hub_answers(repository: str, file_name: str) -> None:
    url = huggingface_hub.hf_hub_url(repository, file_name)
    try:
        huggingface_hub.get_hf_file_metadata(url, timeout=HUB_TIMEOUT_SECONDS)
    except EntryNotFoundError:
        return  # The repository has another of the names; the download finds it.


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
        raise ConfigurationError("OPENCLIP_MODEL", f"{name!r}: {_first_line(error)}") from error
    if config is None:
        raise ConfigurationError(
            "OPENCLIP_MODEL",
            f"{name!r} is not a model of OpenCLIP (such as {DEFAULT_MODEL}); for a configuration"
            " of your own set OPENCLIP_CONFIG to its file",
        )
    return dict(config)


def _quick_gelu(settings: Settings, name: str, config: dict[str, Any]) -> bool:
    if settings.openclip_quick_gelu is not None:
        return settings.openclip_quick_gelu
    # By the resolved name: a configuration of the operator's own stands in for the default model.
    return name == DEFAULT_MODEL or bool(config.get("quick_gelu"))


def _check_activation(settings: Settings, what: str, trained: bool, built: bool) -> None:
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


def _fill(model: Any, weights: Path, spec: ModelSpec) -> None:
    """Load the weights, every one of them: strict loading refuses missing and unknown names."""
    try:
        open_clip.load_checkpoint(
            model, str(weights), strict=True, weights_only=not _is_torchscript(weights)
        )
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        raise ConfigurationError(
            "OPENCLIP_PRETRAINED",
            f"{weights} holds no weights of {spec.name} that can be read: {_first_line(error)}",
        ) from error


def _is_torchscript(path: Path) -> bool:
    """Tell an archive such as OpenAI published from a pickle, by the mark ``torch.load`` goes by.

    Such a file goes to PyTorch's TorchScript reader, which runs no code of it while loading, so
    ``weights_only``, which it does not know, protects from nothing there.
    """
    try:
        with ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (BadZipFile, OSError):
        return False


def _make_tokenizer(spec: ModelSpec) -> Callable[[str], torch.Tensor]:
    try:
        tokenizer: Callable[[str], torch.Tensor] = open_clip.get_tokenizer(spec.name)
        tokenizer("a name")
    except Exception as error:
        raise _unusable_config(spec, error, " a tokenizer that is not on this machine") from error
    return tokenizer


def _make_transform(model: Any, spec: ModelSpec) -> tuple[PreprocessCfg, Any]:
    try:
        preprocess = PreprocessCfg(**model.visual.preprocess_cfg)
        if not len(preprocess.mean) == len(preprocess.std) == 3 or 0 in preprocess.std:
            raise ValueError(f"mean {preprocess.mean} and std {preprocess.std} of three channels")
        return preprocess, image_transform_v2(preprocess, is_train=False)
    except Exception as error:
        raise _unusable_config(spec, error) from error


def _probe(model: Any, tokenizer: Any, spec: ModelSpec, device: torch.device) -> int:
    """Run each tower once and return the length of their vectors, which must agree."""
    height, width = PreprocessCfg(**model.visual.preprocess_cfg).input_size[1:]
    pixels = torch.zeros(1, 3, height, width, dtype=_input_dtype(device), device=device)
    try:
        with torch.inference_mode():
            shapes = [
                tuple(model.encode_image(pixels).shape),
                tuple(model.encode_text(tokenizer("a name").to(device)).shape),
            ]
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        raise _unusable_config(spec, error) from error
    if shapes[0] != shapes[1] or len(shapes[0]) != 2:
        raise ConfigurationError(
            spec.config_setting, f"{spec.name} gives image and text vectors of shapes {shapes}"
        )
    return int(shapes[0][1])


def _unusable_config(
    spec: ModelSpec, error: Exception, needs: str = " what does not work here"
) -> ConfigurationError:
    return ConfigurationError(
        spec.config_setting,
        f"the configuration of {spec.name} asks for{needs}"
        f" ({type(error).__name__}: {_first_line(error)})",
    )


def _model_id(spec: ModelSpec) -> str:
    weights = spec.weights
    if isinstance(weights, Path):
        with weights.open("rb") as file:
            weights = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    parts = [spec.name, weights, _activation(spec.quick_gelu).lower(), spec.config_digest]
    return "/".join(part for part in parts if part)


def _activation(quick_gelu: bool) -> str:
    return "QuickGELU" if quick_gelu else "GELU"


def _input_dtype(device: torch.device) -> torch.dtype:
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(
        choose_precision(device), torch.float32
    )


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300] if lines else type(error).__name__


@contextmanager
def _tame_open_clip() -> Iterator[None]:
    """Keep OpenCLIP's running commentary out of the log and its warnings off the screen.

    It logs to the root logger, among others that it has no weights (they are filled in afterwards).
    What matters of it is checked here and raised. One line is kept, as it tells of weights for
    another picture or text size being adapted.
    """

    def is_wanted(record: logging.LogRecord) -> bool:
        return Path(record.pathname).parent.name != "open_clip" or str(record.msg).startswith(
            "Resizing"
        )

    root = logging.getLogger()
    root.addFilter(is_wanted)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.removeFilter(is_wanted)
