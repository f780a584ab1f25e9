"""Orders through PgBouncer, with fewer sessions than the worker has threads."""

from pathlib import Path

import pytest

from tests.acceptance.world import opened_world
from tests.support import backends
from tests.support.backends import ask
from tests.support.order_factories import order_body

pytestmark = [pytest.mark.soak, pytest.mark.backend, pytest.mark.timeout(300, func_only=True)]

ORDERS = 3000
TRANSACTION = ("pool_mode = transaction", "default_pool_size = 2")
SESSION = ("pool_mode = session", "default_pool_size = 2")
IGNORING = "ignore_startup_parameters = options,extra_float_digits"
IN_APP = "?options=-c%20search_path%3Dapp"
TOTALS = {
    "": "SELECT order_count, spend_minor FROM public.order_totals",
    IN_APP: "SELECT order_count, spend_minor FROM app.order_totals",
}


@pytest.mark.parametrize(
    ("settings", "options", "more"),
    [
        (TRANSACTION, "", ""),
        ((*TRANSACTION, IGNORING), "", ""),
        (TRANSACTION, IN_APP, "&prepare_threshold=0"),
        (SESSION, IN_APP, ""),
    ],
)
def test_orders_go_through_pgbouncer_without_a_warning(
    settings: tuple[str, ...], options: str, more: str, tmp_path: Path, elasticmq_url: str
) -> None:
    with (
        backends.start_postgres() as server,
        backends.start_pgbouncer(server.url, *settings) as bouncer,
        opened_world(tmp_path, elasticmq_url, {}) as world,
    ):
        backends.create_database(server.url, "ledger")
        ask(server.url, "CREATE SCHEMA app", "ledger")
        world.environment["ORDERS_QUEUE_URL"] = world.environment.pop("SQS_QUEUE_URL")
        world.send(*(order_body(order_id=f"ORD{n}", user_id=f"U{n % 17}") for n in range(ORDERS)))
        worker = world.start_worker(
            *("--stream", "orders", "--until-empty", "--threads", "6"),
            DATABASE_URL=bouncer.url.removesuffix("postgres") + "ledger" + options + more,
            DEFAULT_CURRENCY="USD",
        )
        assert worker.wait(240) == 0, worker.log[-3000:]

        assert ask(server.url, TOTALS[options], "ledger") == [(ORDERS, ORDERS * 9999)]
        assert "WARNING" not in worker.log
        assert world.dead_letters() == []
