"""Finds the weights of a model and fills it with every one of them, or says what is wrong.

OpenCLIP itself forgives two things that would spoil every embedding: no weights (it warns and
leaves random ones), and a hub that cannot be reached (it retries for most of a minute).
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
"""How long the model hub may take to say that it is there, before a download is begun."""


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
            f" downloaded ({first_line(error)}); {LOCAL_FILE_HINT}, or connect to the model hub",
        ) from error


def fill(model: Any, weights: Path, spec: ModelSpec) -> None:
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
            f"{weights} holds no weights of {spec.name} that can be read: {first_line(error)}",
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
