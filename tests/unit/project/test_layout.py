"""The places of tests: a tree like the package's, with each test beside its module."""

import re
from pathlib import Path

import pytest

from tests.support.paths import REPOSITORY

UNIT = REPOSITORY / "tests" / "unit"
PACKAGE = REPOSITORY / "product_consumer"
OF_THE_PROJECT = UNIT / "project"
TOP_LEVEL = {"data_management", "thread_runner"}


def unit_tests() -> list[Path]:
    return [path for path in UNIT.rglob("test_*.py") if OF_THE_PROJECT not in path.parents]


def modules_beside(path: Path) -> set[str]:
    """Names of the modules that a test in this file may be about."""
    folder = PACKAGE / path.parent.relative_to(UNIT)
    beside = {module.stem for module in folder.glob("[!_]*.py")}
    return beside | TOP_LEVEL if path.parent == UNIT else beside


@pytest.mark.parametrize("path", unit_tests(), ids=lambda path: str(path.relative_to(UNIT)))
def test_a_unit_test_is_named_after_the_module_that_it_is_about(path: Path) -> None:
    """``test_parser.py`` and ``test_parser_bad_messages.py`` are both about ``parser.py``."""
    subject = path.stem.removeprefix("test_")
    assert any(
        subject == module or subject.startswith(f"{module}_") for module in modules_beside(path)
    )


def test_only_the_support_package_knows_the_path_of_the_repository() -> None:
    counted = re.compile(r"__file__\).*\.(parents\[|parent\.parent)")
    counting = {
        str(path.relative_to(REPOSITORY))
        for folder in ("tests", "benchmarks")
        for path in (REPOSITORY / folder).rglob("*.py")
        if counted.search(path.read_text(encoding="utf-8"))
    }
    assert counting == {"tests/support/paths.py"}
