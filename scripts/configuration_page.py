"""Writes ``docs/configuration.md``: ``python -m scripts.configuration_page``.

Names, values and defaults come from ``Settings``; meanings and sections come from the comments of
``.env.example``. A test compares the page with both.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from product_consumer.models import VECTOR_FIELDS
from product_consumer.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "configuration.md"
EXAMPLE = ROOT / ".env.example"

_INTRODUCTION = """\
# Configuration

<!-- Made by `python -m scripts.configuration_page`; edit .env.example instead. -->

A worker reads its settings once, at its start.
They come from `.env` in the working directory and from the environment, which wins.

```sh
cp .env.example .env
python -m product_consumer check --skip-model
```

- An empty value means the default. `DEFAULT_CURRENCY` is the exception: empty means "none".
- Lists are separated by commas.
- A value that cannot work ends the start with exit code 78 and one line that names the setting.
- Secrets are never printed.
- Other variables in `.env` reach the libraries that read them, as `AWS_PROFILE` reaches boto3."""

_LISTS = {
    "milvus_vector_fields": f"list of {', '.join(f'`{name}`' for name in VECTOR_FIELDS)}",
    "alerts_allowed_networks": "list of CIDRs",
    "image_allowed_networks": "list of CIDRs",
    "image_allowed_ports": "list of ports",
}
_SETTING = re.compile(r"#?([A-Z][A-Z0-9_]*)=")
_RANGE = re.compile(r" ?Range: (\S+) to (\S+)\.$")
_NAME_IN_TEXT = re.compile(r"\b[A-Z]{2,}_[A-Z_]+(?:/[\w.]*\w)?")


@dataclass(frozen=True, slots=True)
class Entry:
    """A setting of the example file. ``bounds``: the range at the end of its comment, if any."""

    section: str
    name: str
    meaning: str
    bounds: tuple[str, str] | None


def page() -> str:
    """Return the page's text."""
    lines = [_INTRODUCTION]
    section = ""
    for entry in entries(EXAMPLE.read_text(encoding="utf-8")):
        if entry.section != section:
            section = entry.section
            lines += [
                f"\n## {section}\n",
                "| setting | values | default | meaning |",
                "|---|---|---|---|",
            ]
        field = Settings.model_fields[entry.name.lower()]
        values = values_of(entry.name.lower(), field)
        lines.append(
            f"| `{entry.name}` | {values} | {default_of(field)} | {_with_code(entry.meaning)} |"
        )
    return "\n".join(lines) + "\n"


def entries(example: str) -> Iterator[Entry]:
    """Yield the settings of the example file in its order, each with the comment above it."""
    section, comment = "", ""
    for line in example.splitlines():
        setting = _SETTING.match(line)
        if setting:
            written = _RANGE.search(comment)
            bounds = (written[1], written[2]) if written else None
            yield Entry(section, setting[1], _RANGE.sub("", comment), bounds)
            comment = ""
        elif line.startswith("#"):
            comment = f"{comment} {line.removeprefix('#').strip()}".strip()
        else:
            # A comment with nothing below it is the title of a section.
            section, comment = comment or section, ""


def bounds_of(field: FieldInfo) -> tuple[str, str] | None:
    """Return the least and the greatest number that a field takes; None for other fields."""
    least = next((limit.ge for limit in field.metadata if isinstance(limit, Ge)), None)
    greatest = next((limit.le for limit in field.metadata if isinstance(limit, Le)), None)
    return None if least is None or greatest is None else (_plain(least), _plain(greatest))


def values_of(name: str, field: FieldInfo) -> str:
    """Return the values that a field takes, in words."""
    kinds = get_args(field.annotation) or (field.annotation,)
    # A kind with a check of its own is ``Annotated``.
    kinds = tuple(getattr(kind, "__origin__", kind) for kind in kinds)
    bounds = bounds_of(field)
    if bounds is not None:
        return f"{bounds[0]} to {bounds[1]}"
    if get_origin(field.annotation) is Literal:
        return " or ".join(f"`{value}`" for value in kinds)
    if name in _LISTS:
        return _LISTS[name]
    if bool in kinds:
        return "`true` or `false`"
    if Path in kinds:
        return "path"
    is_url = name.endswith(("_url", "_uri"))
    if SecretStr in kinds:
        return "URL, secret" if is_url else "secret"
    return "URL" if is_url else "text"


def default_of(field: FieldInfo) -> str:
    """Return the default of a field, in words."""
    text = as_text(field.default)
    return f"`{text}`" if text else "not set"


def as_text(default: object) -> str:
    """Return a default as it is written in the example file."""
    if default is None:
        return ""
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return _plain(default)


def _with_code(meaning: str) -> str:
    return _NAME_IN_TEXT.sub(lambda name: f"`{name[0]}`", meaning)


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"Written: {PAGE.relative_to(ROOT)}")
