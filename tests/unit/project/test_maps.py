"""Every package says what is in it: each file and each package inside it, in one line."""

import ast
import re
from pathlib import Path

import pytest

from tests.support.paths import REPOSITORY

PACKAGE = REPOSITORY / "product_consumer"
MOST_MODULES = 13
ENTRY = re.compile(r"^(\w+) {2,}\S")


def packages() -> list[Path]:
    return sorted(path.parent for path in PACKAGE.rglob("__init__.py"))


def contents_of(package: Path) -> list[str]:
    modules = [path.stem for path in package.glob("*.py") if path.stem != "__init__"]
    inner = [path.parent.name for path in package.glob("*/__init__.py")]
    return sorted(modules + inner)


def named_in(package: Path) -> list[str]:
    docstring = ast.get_docstring(ast.parse((package / "__init__.py").read_text("utf-8"))) or ""
    entries = map(ENTRY.match, docstring.splitlines())
    return sorted(entry.group(1) for entry in entries if entry is not None)


def name_of(package: Path) -> str:
    return str(package.relative_to(REPOSITORY))


@pytest.mark.parametrize("package", packages(), ids=name_of)
def test_the_docstring_of_a_package_names_everything_in_it_once(package: Path) -> None:
    assert named_in(package) == contents_of(package)


@pytest.mark.parametrize("package", packages(), ids=name_of)
def test_the_init_file_of_a_package_is_nothing_but_its_docstring(package: Path) -> None:
    [statement] = ast.parse((package / "__init__.py").read_text("utf-8")).body

    assert isinstance(statement, ast.Expr)


@pytest.mark.parametrize("package", packages(), ids=name_of)
def test_no_folder_has_more_modules_than_a_reader_takes_in(package: Path) -> None:
    assert len(list(package.glob("[!_]*.py"))) <= MOST_MODULES
