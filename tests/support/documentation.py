"""The documentation as tests see it: blocks of code, commands, prose, tables, links and anchors."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = sorted(
    [
        *(REPOSITORY / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
        REPOSITORY / "deploy" / "README.md",
        *DOCS.glob("*.md"),
    ]
)

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"!?\[([^\]]*)\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
_LIST_ITEM = re.compile(r"^(?:[-*]|\d+\.) +")
# A full stop inside a name, such as 3.11 or data_management.py, ends no sentence.
_END_OF_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[\"'(*]*[A-Z0-9])")
_ASSIGNMENT = re.compile(r"[A-Z][A-Z0-9_]*=")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of code."""

    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Example:
    """A command line of a page, less its comment, and what the page shows as its output."""

    page: str
    line: str
    output: tuple[str, ...] = ()

    @property
    def words(self) -> list[str]:
        """The command's words, without the variables that stand before it."""
        words = shlex.split(self.line)
        while words and _ASSIGNMENT.match(words[0]):
            words.pop(0)
        return words

    @property
    def variables(self) -> dict[str, str]:
        """The variables that stand before the command."""
        count = len(shlex.split(self.line)) - len(self.words)
        pairs = (word.partition("=") for word in shlex.split(self.line)[:count])
        return {name: value for name, _, value in pairs}


def name_of(page: Path) -> str:
    """Return a page's path within the repository."""
    return page.relative_to(REPOSITORY).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """Return the texts of a page's blocks in one language."""
    found = _FENCE.findall(page.read_text(encoding="utf-8"))
    return [text for name, text in found if name == language]


def examples(page: Path) -> Iterator[Example]:
    """Yield every command of a page: of its shell blocks, its sessions and its inline code."""
    name = name_of(page)
    for text in blocks(page, "sh"):
        for line in text.splitlines():
            yield Example(name, _without_comment(line))
    yield from sessions(page)
    for code in _CODE.findall(without_blocks(page)):
        yield Example(name, code)


def sessions(page: Path) -> Iterator[Example]:
    """Yield the commands that are shown with their output."""
    for text in blocks(page, "console"):
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            line, *output = part.splitlines()
            yield Example(name_of(page), line, tuple(output))


def without_blocks(page: Path) -> str:
    """Return a page's text less its blocks of code and its comments."""
    return _COMMENT.sub("", _FENCE.sub("", page.read_text(encoding="utf-8")))


def sentences(page: Path) -> Iterator[str]:
    """Yield the sentences of a page's prose: no tables, headings or code."""
    for paragraph in paragraphs(page):
        yield from _END_OF_SENTENCE.split(paragraph)


def paragraphs(page: Path) -> Iterator[str]:
    """Yield paragraphs and list items, each as one line; code in it is one word, ``Code``."""
    lines: list[str] = []
    for line in [*without_blocks(page).splitlines(), ""]:
        stripped = line.strip()
        is_prose = stripped and not stripped.startswith(("#", "|", "--8<--"))
        if lines and (not is_prose or _LIST_ITEM.match(stripped)):
            yield _plain(" ".join(lines))
            lines = []
        if is_prose:
            lines.append(_LIST_ITEM.sub("", stripped))


def tables(page: Path) -> list[list[list[str]]]:
    """Return a page's tables, each as its rows of cells, the head first."""
    found: list[list[list[str]]] = []
    was_row = False
    for line in without_blocks(page).splitlines():
        is_row = line.startswith("|")
        if is_row and not was_row:
            found.append([])
        if is_row and not re.fullmatch(r"[|:\- ]+", line):
            found[-1].append([cell.strip() for cell in line.strip().strip("|").split("|")])
        was_row = is_row
    return found


def table(page: Path, *head: str) -> list[list[str]]:
    """Return the rows of the one table whose head begins with these cells."""
    [found] = [each for each in tables(page) if each[0][: len(head)] == list(head)]
    return found[1:]


def codes(cell: str) -> list[str]:
    """Return the inline code of a cell."""
    return _CODE.findall(cell)


def links(page: Path) -> list[str]:
    """Return where a page's links and images lead."""
    return [target for _, target in _LINK.findall(without_blocks(page))]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    return {_slug(heading) for heading in _HEADING.findall(without_blocks(page))}


def _slug(heading: str) -> str:
    kept = re.sub(r"[^\w\s-]", "", heading).strip().lower()
    return re.sub(r"[\s-]+", "-", kept)


def _without_comment(line: str) -> str:
    return re.sub(r"\s+#.*$", "", line)


def _plain(text: str) -> str:
    return _LINK.sub(r"\1", _CODE.sub("Code", text))
