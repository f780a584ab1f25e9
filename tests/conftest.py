"""Fixtures: real servers, each started once per session when the first test asks for it.

A test that needs a program which is not installed is skipped with the reason on a developer's
machine and fails where ``CI`` is set, so that CI leaves no test out.
"""

import gc
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import dotenv
import hypothesis
import pytest
import redis
import sqlalchemy

from product_consumer.settings import Settings
from tests.support import backends
from tests.support.aws_data import share_descriptions
from tests.support.paths import REPOSITORY
from tests.support.rabbitmq import RabbitClient, makes_queues
from tests.support.rabbitmq_node import RabbitNode, RabbitServer
from tests.support.tools import skipping_without_tools

MEMORY_DISK = Path("/dev/shm")
MEMORY_DISK_BYTES = 4_000_000_000
OLD_SETTING_NAMES = {"MILVUS_HOST", "MILVUS_PORT", "ES_HOST"}
SERVER_FIXTURES = {
    "elasticmq_url",
    "elasticsearch_url",
    "postgres_server",
    "postgres_url",
    "pgbouncer_url",
    "milvus_server_url",
    "toxiproxy_url",
    "redis_server",
    "redis_url",
    "rabbitmq_server",
    "rabbitmq",
    "rabbitmq_node",
}


# A test parameter with one of these values names a server that the test asks for.
SERVER_PARAMETERS = {
    "sqs",
    "rabbitmq",
    "elasticsearch_server",
    "postgresql",
    "pgbouncer",
    "milvus_server",
}


# The version that tests ran against, for the summary.
RABBITMQ_VERSION = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="also run the long tests (marker soak)")


def pytest_configure() -> None:
    """Keep scratch files, also those of servers, in memory unless ``TMPDIR`` says otherwise.

    Every store waits for its disk before it confirms, and no test cuts the power.
    """
    if "TMPDIR" not in os.environ and _is_roomy(MEMORY_DISK):
        os.environ["TMPDIR"] = str(MEMORY_DISK)
        tempfile.tempdir = None
    # How long an example takes says more of the machine's other work than of the code.
    hypothesis.settings.register_profile("project", deadline=None)
    hypothesis.settings.load_profile("project")
    # Of several threads for a tiny model, most spin: half the processor time of its tests.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    share_descriptions()
    # For servers that live for minutes: half the processor time of a start.
    os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")


def _is_roomy(directory: Path) -> bool:
    return os.access(directory, os.W_OK) and shutil.disk_usage(directory).free >= MEMORY_DISK_BYTES


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--soak"):
        long = [item for item in items if item.get_closest_marker("soak")]
        items[:] = [item for item in items if item not in long]
        config.hook.pytest_deselected(items=long)
    seconds = float(config.getini("timeout"))
    for item in items:
        if not _needs_a_server(item):
            continue
        item.add_marker("backend")
        if item.get_closest_marker("timeout") is None:
            # Starting a server has limits of its own; a first start collects its jars.
            item.add_marker(pytest.mark.timeout(seconds, func_only=True))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say which RabbitMQ the tests ran against: there are several."""
    version = config.stash.get(RABBITMQ_VERSION, None)
    if version is not None:
        terminalreporter.write_line(f"RabbitMQ {version}")


def pytest_collection_finish() -> None:
    """Leave what is loaded by now, a million objects, out of every search for garbage."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Let the interpreter end as it does otherwise: libraries report what is left over."""
    gc.unfreeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Iterator[None]:
    with skipping_without_tools():
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    with skipping_without_tools():
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Iterator[None]:
    with skipping_without_tools():
        yield


def _needs_a_server(item: pytest.Item) -> bool:
    fixtures = SERVER_FIXTURES.intersection(getattr(item, "fixturenames", ()))
    parameters = getattr(getattr(item, "callspec", None), "params", {}).values()
    named = any(isinstance(value, str) and value in SERVER_PARAMETERS for value in parameters)
    return bool(fixtures) or named or item.get_closest_marker("backend") is not None


@pytest.fixture(scope="session", autouse=True)
def developers_environment() -> None:
    """No setting of the developer's shell or ``~/.aws`` reaches a test or a shared fixture."""
    setting_names = {name.upper() for name in Settings.model_fields} | OLD_SETTING_NAMES
    for name in list(os.environ):
        if name.upper() in setting_names or name.startswith("AWS_"):
            del os.environ[name]
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"


@pytest.fixture(autouse=True)
def isolated_environment(
    developers_environment: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """No setting of the developer's ``.env`` reaches a test; a test's own settings end with it."""
    before = dict(os.environ)

    def load_all_but_the_developers(path: Path, override: bool = False) -> bool:
        if Path(path).resolve() == REPOSITORY / ".env":
            return False
        return dotenv.load_dotenv(path, override=override)

    monkeypatch.setattr("product_consumer.environment.load_dotenv", load_all_but_the_developers)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def aws_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made-up credentials and a region, for servers that accept all."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture(scope="session")
def elasticmq_url() -> Iterator[str]:
    """Endpoint of ElasticMQ, which speaks the SQS API; use queue names of your own."""
    yield from running_server("TEST_SQS_ENDPOINT_URL", backends.start_elasticmq)


@pytest.fixture(scope="session")
def elasticsearch_url() -> Iterator[str]:
    """URL of a real Elasticsearch; use index names of your own."""
    yield from running_server("TEST_ELASTICSEARCH_URL", backends.start_elasticsearch)


@pytest.fixture(scope="session")
def milvus_server_url() -> Iterator[str]:
    """URI of a Milvus Lite server; use collection names of your own."""
    yield from running_server("TEST_MILVUS_URI", backends.start_milvus)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """SQLAlchemy URL of a PostgreSQL server's ``postgres`` database; may create databases."""
    yield from running_server("TEST_POSTGRES_URL", backends.start_postgres)


@pytest.fixture(scope="session")
def toxiproxy_url() -> Iterator[str]:
    """HTTP API of toxiproxy; use proxies of your own."""
    yield from running_server("TEST_TOXIPROXY_URL", backends.start_toxiproxy)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """URL of a Redis; it is emptied for each test that asks for ``redis_url``."""
    yield from running_server("TEST_REDIS_URL", backends.start_redis)


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """URL of an empty Redis."""
    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server


@pytest.fixture(scope="session")
def rabbitmq_server(pytestconfig: pytest.Config) -> Iterator[RabbitServer]:
    """A RabbitMQ with its management API; use queue names of your own."""
    external = os.environ.get("TEST_RABBITMQ_URL")
    if external:
        yield RabbitServer(external, os.environ.get("TEST_RABBITMQ_MANAGEMENT_URL"))
        return
    with RabbitNode() as node:
        pytestconfig.stash[RABBITMQ_VERSION] = node.version
        yield node


@pytest.fixture
def rabbitmq(rabbitmq_server: RabbitServer) -> Iterator[RabbitClient]:
    """A plain client of the shared RabbitMQ; it makes queue names and removes their queues."""
    with RabbitClient(rabbitmq_server) as client:
        yield client


@pytest.fixture(scope="session")
def local_rabbitmq_node(rabbitmq_server: RabbitServer) -> Iterator[RabbitNode]:
    """The shared RabbitMQ where it runs on this machine, else a node of its own."""
    if isinstance(rabbitmq_server, RabbitNode):
        yield rabbitmq_server
        return
    with RabbitNode() as node:
        yield node


@pytest.fixture
def rabbitmq_node(local_rabbitmq_node: RabbitNode) -> Iterator[RabbitNode]:
    """A node that runs, and that the test may stop, crash and pause."""
    yield local_rabbitmq_node
    local_rabbitmq_node.heal()
    if not makes_queues(local_rabbitmq_node):
        # Seen on a busy machine after a fault: a node that answers, and that refuses every quorum
        # queue with 541 from then on.
        local_rabbitmq_node.kill()
        local_rabbitmq_node.start()


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """SQLAlchemy URL of a fresh, empty database."""
    name = f"test_{uuid.uuid4().hex}"
    url = backends.create_database(postgres_server, name)
    yield url
    backends.drop_database(postgres_server, name)


@pytest.fixture(scope="session")
def pgbouncer_server(postgres_server: str) -> Iterator[str]:
    """URL of PgBouncer before PostgreSQL: two sessions for each database, one per transaction."""
    with backends.start_pgbouncer(
        postgres_server, "pool_mode = transaction", "default_pool_size = 2"
    ) as bouncer:
        yield bouncer.url


@pytest.fixture
def pgbouncer_url(pgbouncer_server: str, postgres_url: str) -> str:
    """SQLAlchemy URL of a fresh, empty database, through PgBouncer."""
    database = sqlalchemy.make_url(postgres_url).database
    url = sqlalchemy.make_url(pgbouncer_server).set(database=database)
    return url.render_as_string(hide_password=False)


def running_server(variable: str, start: Callable[[], backends.Backend]) -> Iterator[str]:
    external = os.environ.get(variable)
    if external:
        yield external
        return
    with start() as backend:
        yield backend.url
