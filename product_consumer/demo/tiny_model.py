"""The small OpenCLIP model that ships with the package; it knows the drawn catalogue only.

``training/train_model.py`` made it. Unpacked, it loads like any other OpenCLIP model::

    open_clip.add_model_config(config_path())
    open_clip.create_model(MODEL_NAME, pretrained=str(unpack_weights(directory)))
"""

import hashlib
import lzma
import os
import tempfile
from pathlib import Path

MODEL_NAME = "product-demo"
"""OpenCLIP's name of the model: the name of its configuration file."""

_FOLDER = Path(__file__).parent / "model"
PACKED_WEIGHTS = _FOLDER / f"{MODEL_NAME}.safetensors.xz"
CHECKSUM = _FOLDER / f"{MODEL_NAME}.safetensors.sha256"
"""Of the unpacked file, in the format of ``sha256sum``."""


def config_path() -> Path:
    """Return the file of the model's configuration, for ``open_clip.add_model_config``."""
    return _FOLDER / f"{MODEL_NAME}.json"


def unpack_weights(directory: Path) -> Path:
    """Write ``directory/product-demo.safetensors`` unless it is there and right; return its path.

    Several processes may do this at once: the file appears whole or not at all.
    Raises OSError where the directory cannot be made or written.
    """
    target = directory / f"{MODEL_NAME}.safetensors"
    if _is_right(target):
        return target
    directory.mkdir(parents=True, exist_ok=True)
    weights = lzma.decompress(PACKED_WEIGHTS.read_bytes())
    handle, name = tempfile.mkstemp(prefix=f".{MODEL_NAME}-", dir=directory)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(weights)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _is_right(target: Path) -> bool:
    checksum = CHECKSUM.read_text(encoding="ascii").split()[0]
    try:
        return hashlib.sha256(target.read_bytes()).hexdigest() == checksum
    except FileNotFoundError:
        return False


def settings(directory: Path) -> dict[str, str | Path]:
    """Unpack the weights into ``directory``; return the settings that load them, by field name."""
    return {
        "openclip_model": MODEL_NAME,
        "openclip_config": config_path(),
        "openclip_pretrained": str(unpack_weights(directory)),
    }
