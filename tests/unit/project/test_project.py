"""The order of the project: allowed imports, and requirements that match the imports."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.paths import REPOSITORY

PACKAGE = REPOSITORY / "product_consumer"
TOP_LEVEL = ("data_management", "thread_runner")

# Third-party clients and the files, relative to the package, that may import them.
HOMES = {
    "babel": ("messages/cldr.py",),
    "boto3": ("queues/sqs/client.py",),
    "botocore": ("queues/sqs/client.py",),
    "elasticsearch": ("stores/elasticsearch/",),
    "fastapi": ("api/app.py", "api/guard.py", "api/results.py"),
    "elastic_transport": ("stores/elasticsearch/",),
    "grpc": ("stores/milvus/",),
    "iso4217": ("money.py",),
    "milvus_lite": ("stores/milvus/embedded_server.py",),
    "moto": ("demo/",),
    "open_clip": ("embedding/", "demo/", "streams/labels/prompts.py"),
    "price_parser": ("messages/price_numbers.py",),
    "prometheus_client": ("metrics.py",),
    "psycopg": ("database/",),
    "pycurl": ("images/", "streams/alerts/webhook.py"),
    # The embedded server needs the generated service definition that pymilvus carries.
    "pymilvus": ("stores/milvus/",),
    "redis": ("orders/redis/",),
    "river": ("streams/anomaly/",),
    "pika": ("queues/rabbitmq/amqp/client.py",),
    "requests": ("quality/language_model.py", "queues/rabbitmq/management.py"),
    "simplejpeg": ("images/",),
    "sqlalchemy": (
        *("database/", "ledger", "orders/ledger.py", "orders/statistics.py", "orders/tables.py"),
        *("quality/store.py", "quality/tables.py", "streams/results.py"),
    ),
    "tokenizers": ("embedding/tokenizer.py",),
    "urllib3": ("quality/language_model.py",),
    "uvicorn": ("api/server.py",),
    "torch": ("embedding/", "demo/"),
    "torchvision": ("embedding/preprocessing.py", "demo/"),
    "dotenv": ("environment.py",),
}

# Used although no file imports them.
NOT_IMPORTED = {
    "milvus-lite": "started as a process and by pymilvus",
    "tzdata": "found by zoneinfo where the machine has no time zones",
}

# Packages that a required package brings, always in a version that fits.
CARRIED_BY = {
    "botocore": "boto3",
    "elastic-transport": "elasticsearch",
    "huggingface-hub": "open-clip-torch",
    "pydantic-core": "pydantic",
    "starlette": "fastapi",
    "torchvision": "open-clip-torch",
    "urllib3": "requests",
}

# The demo's queue: installed with the test tools only.
DEVELOPMENT_ONLY = {"moto", "opentelemetry-api"}


def package_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def nodes_that_run(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node below ``tree``, except those under ``if TYPE_CHECKING:``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        yield node
        yield from nodes_that_run(node)


@cache
def imports_of(path: Path) -> set[str]:
    """Full names of everything a file imports when it runs, wherever in the file."""
    names: set[str] = set()
    for node in nodes_that_run(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return names


def roots_imported_by(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports_of(path)}


def requirements(name: str) -> Iterator[Requirement]:
    for line in (REPOSITORY / name).read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if text and not text.startswith("-"):
            yield Requirement(text)


def sources() -> list[Path]:
    return [*package_files(), *(REPOSITORY / f"{name}.py" for name in TOP_LEVEL)]


@pytest.mark.parametrize("path", package_files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_package_never_imports_the_top_level_files(path: Path) -> None:
    assert roots_imported_by(path).isdisjoint(TOP_LEVEL)


@pytest.mark.parametrize(("client", "homes"), HOMES.items(), ids=list(HOMES))
def test_a_third_party_client_is_imported_in_its_own_place_only(
    client: str, homes: tuple[str, ...]
) -> None:
    importers = {
        path.relative_to(PACKAGE).as_posix()
        for path in package_files()
        if client in roots_imported_by(path)
    }
    assert {name for name in importers if not name.startswith(homes)} == set()


def test_only_one_module_reads_the_environment() -> None:
    readers = {
        path.name
        for path in sources()
        if re.search(r"\bos\.(environ|getenv)|from os import .*environ", path.read_text("utf-8"))
    }
    assert readers <= {"environment.py"}


def test_package_code_waits_on_events_and_never_sleeps() -> None:
    sleepers = {path.name for path in sources() if "time.sleep" in path.read_text("utf-8")}
    assert sleepers == set()


def test_every_import_is_a_requirement() -> None:
    providers = packages_distributions()
    required = {canonicalize_name(package.name) for package in requirements("requirements.txt")}
    missing = {}
    for root in set().union(*(roots_imported_by(path) for path in sources())):
        if root in sys.stdlib_module_names or root in {"product_consumer", *TOP_LEVEL}:
            continue
        names = {str(canonicalize_name(name)) for name in providers.get(root, [root])}
        names |= {CARRIED_BY[name] for name in names & CARRIED_BY.keys()}
        if not names & (required | DEVELOPMENT_ONLY):
            missing[root] = names
    assert missing == {}


def test_every_requirement_is_imported_or_has_a_reason() -> None:
    providers = packages_distributions()
    imported = {
        canonicalize_name(name)
        for path in sources()
        for root in roots_imported_by(path)
        for name in providers.get(root, [])
    }
    required = {canonicalize_name(package.name) for package in requirements("requirements.txt")}
    assert required - imported - NOT_IMPORTED.keys() == set()


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_the_constraints_hold_an_exact_version_within_every_range(name: str) -> None:
    exact = {
        canonicalize_name(pin.name): str(pin.specifier) for pin in requirements("constraints.txt")
    }
    for requirement in requirements(name):
        pin = exact[canonicalize_name(requirement.name)]
        assert pin.startswith("==")
        assert requirement.specifier.contains(pin.removeprefix("=="))


def test_the_embedder_needs_nothing_but_pytorch_and_what_open_clip_brings() -> None:
    """So that ``benchmarks/device.py`` runs where nothing else can be installed."""
    brought = {
        "PIL",
        "huggingface_hub",
        "numpy",
        "open_clip",
        "safetensors",
        "torch",
        "torchvision",
    }
    # Optional: ``make_tokenizer`` uses it where it is installed.
    brought.add("tokenizers")
    todo, seen = ["product_consumer.embedding.embedder"], set()
    while todo:
        name = todo.pop()
        seen.add(name)
        path = (REPOSITORY / name.replace(".", "/")).with_suffix(".py")
        if not path.exists():
            path = path.with_suffix("") / "__init__.py"
        for imported in imports_of(path):
            root = imported.partition(".")[0]
            if root == PACKAGE.name:
                todo += [imported] if imported not in seen else []
            else:
                assert root in brought | set(sys.stdlib_module_names), f"{name} imports {imported}"
