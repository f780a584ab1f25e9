"""The file of labels: one label per line, or a JSON object of labels with prompts of their own."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from product_consumer.errors import ConfigurationError, InvalidMessage
from product_consumer.text import check_text, excerpt

OPTION = "--labels"
MAX_FILE_BYTES = 8 * 1024 * 1024
MAX_LABELS = 10_000
"""Each label is embedded with several prompts: so many take a GPU minutes and a CPU hours."""
MAX_LABEL_CHARACTERS = 200
MAX_PROMPTS = 500
"""Of one label."""
MAX_PROMPT_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class LabelFile:
    """Labels in the order of their file, at least one, each once."""

    prompts: Mapping[str, Sequence[str]]
    """By label; none for a label that takes the usual ones."""
    digest: str
    """SHA-256 of the file, hex."""

    @property
    def labels(self) -> list[str]:
        return list(self.prompts)


def read_labels(path: Path) -> LabelFile:
    """Read a file of labels.

    Raises ``ConfigurationError`` that names ``--labels`` for a file that cannot be read, is not
    UTF-8, or has no label, too many, an empty one, or one twice.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        _refuse(f"{path}: {error.strerror}")
    if len(content) > MAX_FILE_BYTES:
        _refuse(f"{path} has more than {MAX_FILE_BYTES} bytes")
    try:
        text = content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        _refuse(f"{path} is not UTF-8 at byte {error.start}")
    is_json = text.lstrip().startswith("{")
    pairs = _pairs_of_json(text) if is_json else [(line, []) for line in _lines(text)]
    return LabelFile(_checked(pairs), hashlib.sha256(content).hexdigest())


def _lines(text: str) -> list[str]:
    # Not splitlines: it also splits at characters that a label may hold.
    return text.rstrip().split("\n") if text.strip() else []


def _pairs_of_json(text: str) -> list[tuple[str, list[str]]]:
    # A repeated key would silently replace the first.
    try:
        pairs = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError) as error:
        _refuse(f"begins with an object of JSON and is none: {error}")
    return [(label, _prompts(label, prompts)) for label, prompts in pairs]


def _prompts(label: str, prompts: Any) -> list[str]:
    if prompts is None:
        return []
    is_list = isinstance(prompts, list) and len(prompts) <= MAX_PROMPTS
    if not is_list or not all(isinstance(prompt, str) for prompt in prompts):
        _refuse(f"{excerpt(label)} needs a list of at most {MAX_PROMPTS} prompts")
    cleaned = [prompt.strip() for prompt in prompts]
    if not all(0 < len(prompt) <= MAX_PROMPT_CHARACTERS for prompt in cleaned):
        _refuse(f"{excerpt(label)} has a prompt that is empty or too long")
    return cleaned


def _checked(pairs: Sequence[tuple[str, list[str]]]) -> dict[str, list[str]]:
    labels = {}
    if not pairs:
        _refuse("has no label")
    if len(pairs) > MAX_LABELS:
        _refuse(f"has {len(pairs)} labels; at most {MAX_LABELS}")
    for number, (written, prompts) in enumerate(pairs, 1):
        label = written.strip()
        if not label:
            _refuse(f"label {number} is empty")
        if len(label) > MAX_LABEL_CHARACTERS:
            _refuse(f"label {number} has more than {MAX_LABEL_CHARACTERS} characters")
        try:
            check_text(label, f"label {number}")
        except InvalidMessage as error:
            _refuse(error.detail)
        labels[label] = prompts
    if len(labels) < len(pairs):
        counts = Counter(written.strip() for written, _ in pairs)
        _refuse(f"has {excerpt(counts.most_common(1)[0][0])} twice")
    return labels


def _refuse(problem: str) -> NoReturn:
    raise ConfigurationError(OPTION, problem)
