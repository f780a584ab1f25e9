"""What several files of this folder share."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from tests.acceptance.demo_run import DemoRun, run_demo
from tests.acceptance.warm_world import WarmWorld
from tests.faults.harness.forked_workers import ForkServer
from tests.support.tiny_clip import make_tiny_clip


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> DemoRun:
    """One demo for all who look at what it shows and leaves; nobody changes its files."""
    directory = tmp_path_factory.mktemp("first_run")
    return DemoRun(directory, run_demo(directory))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Settings of a tiny model in files."""
    tiny = make_tiny_clip(tmp_path_factory.mktemp("model"))
    return {
        "OPENCLIP_MODEL": tiny.model_name,
        "OPENCLIP_CONFIG": str(tiny.config_path),
        "OPENCLIP_PRETRAINED": str(tiny.weights_path),
    }


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    """Starts ``thread_runner.py`` quickly."""
    with ForkServer("--program") as started:
        yield started


@pytest.fixture
def world(
    tmp_path: Path, elasticmq_url: str, model: Mapping[str, str], fork_server: ForkServer
) -> Iterator[WarmWorld]:
    """A world with a tiny model, whose workers start quickly."""
    with closing(WarmWorld(tmp_path, elasticmq_url, model, fork_server)) as opened:
        yield opened


@pytest.fixture
def order_world(tmp_path: Path, elasticmq_url: str, fork_server: ForkServer) -> Iterator[WarmWorld]:
    """A world whose queue is one of orders."""
    with closing(WarmWorld(tmp_path, elasticmq_url, {}, fork_server)) as opened:
        opened.environment["ORDERS_QUEUE_URL"] = opened.environment.pop("SQS_QUEUE_URL")
        opened.environment["DEFAULT_CURRENCY"] = "USD"
        yield opened
