"""The documentation can be followed: its links lead somewhere, its commands exist, its prose is
plain.
"""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main

from product_consumer.cli.app import app as console
from product_consumer.runtime.options import read_options
from tests.support.documentation import (
    PAGES,
    Example,
    anchors,
    examples,
    links,
    name_of,
    paragraphs,
    sentences,
)
from tests.support.paths import REPOSITORY

MAX_WORDS = 25
MAX_README_LINES, MAX_README_BYTES = 130, 8192
CONSOLE = ["python", "-m", "product_consumer"]
WORKER = ["python", "thread_runner.py"]
# Stand for any command, or for whoever cloned the repository.
PLACEHOLDERS = {"COMMAND", "REPOSITORY"}

each_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


def examples_of(*beginning: str) -> list[Any]:
    """The documentation's commands that begin with these words, each once."""
    by_line = {
        example.line: example
        for page in PAGES
        for example in examples(page)
        if _words(example)[: len(beginning)] == list(beginning)
    }
    return [
        pytest.param(example, id=f"{example.page}: {example.line}")
        for example in by_line.values()
        if not PLACEHOLDERS & set(_words(example))
    ]


def _words(example: Example) -> list[str]:
    try:
        return example.words
    except ValueError:
        # Inline code with a quotation mark is no command.
        return []


def test_the_readme_is_short() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")

    assert len(text.splitlines()) < MAX_README_LINES
    assert len(text.encode()) < MAX_README_BYTES


@each_page
def test_no_sentence_is_long(page: Path) -> None:
    long = [text for text in sentences(page) if len(re.findall(r"\w[^\s]*", text)) > MAX_WORDS]

    assert long == []


@each_page
def test_a_paragraph_has_at_most_one_semicolon(page: Path) -> None:
    assert [text for text in paragraphs(page) if text.count(";") > 1] == []


@each_page
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    broken = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)

    assert broken == []


@pytest.mark.parametrize("example", examples_of(*CONSOLE))
def test_the_console_takes_every_documented_command(example: Example) -> None:
    group, words = typer.main.get_command(console), example.words[len(CONSOLE) :]
    command: Any = group
    while hasattr(command, "resolve_command"):
        context = command.make_context("product_consumer", words[:0], resilient_parsing=True)
        _, command, words = command.resolve_command(context, words)

    # Raises for an option or a value that the command does not take.
    command.make_context("command", list(words))


@pytest.mark.parametrize("example", examples_of(*WORKER))
def test_the_worker_takes_every_documented_option(example: Example) -> None:
    assert read_options(example.words[len(WORKER) :])


@pytest.mark.parametrize("example", examples_of("make"))
def test_make_knows_every_documented_target(example: Example) -> None:
    dry_run = subprocess.run(
        ["make", "--dry-run", *example.words[1:]],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert dry_run.returncode == 0, dry_run.stderr


@pytest.mark.parametrize("example", examples_of("python", "-m"))
def test_a_documented_module_exists_and_knows_its_options(example: Example) -> None:
    _, _, name, *words = example.words
    path = REPOSITORY.joinpath(*name.split("."))
    source = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__main__.py"

    assert source.is_file()
    if name.startswith("benchmarks."):
        text = source.read_text(encoding="utf-8")
        assert [word for word in words if word[:2] == "--" and f'"{word}"' not in text] == []


@pytest.mark.parametrize("example", examples_of("python"))
def test_a_documented_program_is_one_of_ours(example: Example) -> None:
    program = example.words[1] if len(example.words) > 1 else ""

    assert program == "-m" or (REPOSITORY / program).is_file()
