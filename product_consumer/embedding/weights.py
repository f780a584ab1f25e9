"""Finds the weights of a model and loads every one of them, or names the setting that is wrong.

OpenCLIP starts without weights: it warns, and random weights spoil every embedding. A hub that it
cannot reach costs it most of a minute of retries.
"""

import logging
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import huggingface_hub
import open_clip
import torch
from huggingface_hub.errors import EntryNotFoundError
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from open_clip.pretrained import download_pretrained, get_pretrained_cfg

from product_consumer.embedding.spec import LOCAL_FILE_HINT, ModelSpec, first_line
from product_consumer.errors import ConfigurationError

log = logging.getLogger(__name__)

HUB_TIMEOUT_SECONDS = 10.0
"""How long the model hub may take to answer before a download begins."""
UNUSED_WEIGHTS = frozenset({"logit_scale", "logit_bias"})
"""Scale and bias of similarities, for training."""


def find_weights(spec: ModelSpec) -> Path:
    """Return the weights file: the operator's own, a cached download, or a new download.

    The cache comes first, so that a machine which has the weights starts without a network. The hub
    is asked once whether it answers: its client would retry for most of a minute.

    Raises ``ConfigurationError`` when the weights are not here and cannot be downloaded.
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
            f" downloaded ({first_line(error)}); {LOCAL_FILE_HINT}, or connect to the model hub",
        ) from error


def fill(model: Any, weights: Path, spec: ModelSpec) -> None:
    """Load every weight: strict loading refuses missing and unknown names.

    Raises ``ConfigurationError`` for a file that does not hold this model's weights, and for
    weights that are not finite: a single one may spoil every embedding, or those of one word.
    """
    try:
        open_clip.load_checkpoint(
            model, str(weights), strict=True, weights_only=not _is_torchscript(weights)
        )
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        raise ConfigurationError(
            "OPENCLIP_PRETRAINED",
            f"{weights} holds no weights of {spec.name} that can be read: {first_line(error)}",
        ) from error
    problem = find_not_finite(model)
    if problem is not None:
        raise ConfigurationError(
            "OPENCLIP_PRETRAINED",
            f"{weights} holds weights of {spec.name} that work in no precision: {problem}",
        )


def find_not_finite(model: Any) -> str | None:
    """Return which weights are NaN or infinite, as a sentence; None where all are finite.

    Weights that no embedding depends on may be anything.
    """
    for name, values in model.state_dict().items():
        if name in UNUSED_WEIGHTS or not values.is_floating_point():
            continue
        count = values.numel() - int(torch.isfinite(values).sum())
        if count:
            return f"{count} of the {values.numel()} numbers of {name} are NaN or infinite"
    return None


def _hub_files(file_name: str) -> list[str]:
    """Return the file names that OpenCLIP tries in a hub repository, in its order."""
    if not file_name or file_name == HF_WEIGHTS_NAME:
        return [HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME]
    return [str(Path(file_name).with_suffix(".safetensors")), file_name]


def _check_hub_answers(repository: str, file_name: str) -> None:
    url = huggingface_hub.hf_hub_url(repository, file_name)
    try:
        huggingface_hub.get_hf_file_metadata(url, timeout=HUB_TIMEOUT_SECONDS)
    except EntryNotFoundError:
        return  # The repository has another of these files; the download finds it.


def _is_torchscript(path: Path) -> bool:
    """Return True for a TorchScript archive, such as OpenAI published, and False for a pickle.

    ``torch.load`` looks for the same file in the archive. PyTorch's TorchScript reader runs no code
    of the archive while loading. It does not know ``weights_only`` and does not need it.
    """
    try:
        with ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (BadZipFile, OSError):
        return False
