"""PostgreSQL fails over under load: a standby is promoted, and the worker finds it by itself."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.acceptance.world import Worker, World, opened_world, wait_until
from tests.support import backends
from tests.support.backends import ask
from tests.support.forwarder import Forwarder
from tests.support.order_factories import order_body

pytestmark = [pytest.mark.soak, pytest.mark.backend, pytest.mark.timeout(300, func_only=True)]

RECOVERED_SECONDS = 60.0
ORDERS = 3000


@dataclass
class Cluster:
    """A primary, and a standby that confirms every commit before the client hears of it."""

    primary: backends.Backend
    standby: backends.Backend
    primary_data: Path
    running: ExitStack

    def promote(self, *, is_primary_frozen: bool = False) -> None:
        """End or freeze the primary, and let the standby take its place."""
        if is_primary_frozen:
            self.primary.pause()
        else:
            self.primary.kill()
        ask(self.standby.url, "SELECT pg_promote()")

    def restart_demoted(self) -> None:
        """The old primary comes back as a standby: it answers, and refuses writes."""
        (self.primary_data / "standby.signal").touch()
        port = urlsplit(self.primary.url).port
        again = backends.start_postgres(port, data_dir=self.primary_data)
        self.running.enter_context(again)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with ExitStack() as running:
        directory = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="cluster-")))
        directory.chmod(0o711)
        data = directory / "data"
        primary = running.enter_context(backends.start_postgres(data_dir=data))
        backends.create_database(primary.url, "ledger")
        standby = running.enter_context(backends.start_postgres(copy_of=primary.url))
        wait_until(lambda: ask(primary.url, "SELECT state FROM pg_stat_replication") != [], 20)
        ask(primary.url, "ALTER SYSTEM SET synchronous_standby_names = '*'")
        ask(primary.url, "SELECT pg_reload_conf()")
        yield Cluster(primary, standby, data, running)


@pytest.fixture
def world(tmp_path: Path, elasticmq_url: str) -> Iterator[World]:
    with opened_world(tmp_path, elasticmq_url, {}) as world:
        world.environment["ORDERS_QUEUE_URL"] = world.environment.pop("SQS_QUEUE_URL")
        world.environment |= {"DEFAULT_CURRENCY": "USD", "THREADS": "6"}
        yield world


def working(world: World, hosts: str) -> Worker:
    """A worker in the middle of the orders."""
    world.send(*(order_body(order_id=f"ORD{n}", user_id=f"U{n % 17}") for n in range(ORDERS)))
    url = f"postgresql://postgres@{hosts}/ledger"
    worker = world.start_worker("--stream", "orders", DATABASE_URL=url)
    worker.wait_for_log("processed ID", count=200)
    return worker


def check_that_it_goes_on(world: World, worker: Worker, cluster: Cluster) -> None:
    promoted_at, done = time.monotonic(), worker.log.count("processed ID")
    wait_until(lambda: worker.log.count("processed ID") > done, RECOVERED_SECONDS)
    assert time.monotonic() - promoted_at < RECOVERED_SECONDS, worker.log[-3000:]
    wait_until(lambda: world.left_in_queue() == 0, 120)
    assert world.left_in_queue() == 0, worker.log[-3000:]
    assert world.dead_letters() == []
    [(count, cents)] = ask(
        cluster.standby.url, "SELECT order_count, spend_minor FROM order_totals", "ledger"
    )
    assert (count, cents) == (ORDERS, ORDERS * 9999)
    assert "Traceback" not in worker.log


@pytest.mark.parametrize("is_primary_frozen", [False, True], ids=["killed", "frozen"])
def test_of_several_hosts_the_promoted_one_is_found(
    world: World, cluster: Cluster, is_primary_frozen: bool
) -> None:
    hosts = ",".join(
        f"127.0.0.1:{urlsplit(server.url).port}" for server in (cluster.primary, cluster.standby)
    )
    worker = working(world, hosts)

    cluster.promote(is_primary_frozen=is_primary_frozen)

    check_that_it_goes_on(world, worker, cluster)


def test_sessions_with_a_demoted_server_are_left_when_its_name_moves(
    world: World, cluster: Cluster
) -> None:
    with Forwarder(cluster.primary.url) as name:
        worker = working(world, f"127.0.0.1:{name.port}")
        cluster.promote()
        cluster.restart_demoted()
        worker.wait_for_log("read-only")

        name.lead_to(cluster.standby.url)

        check_that_it_goes_on(world, worker, cluster)
