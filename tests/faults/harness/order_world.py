"""A world with the order stream: an order queue, Redis behind a proxy, and their verdict."""

import contextlib
import itertools
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis

from tests.acceptance.world import wait_until
from tests.faults.harness.checker import Violation
from tests.faults.harness.forked_workers import ForkedWorld, ForkServer
from tests.faults.harness.order_checker import (
    OrderCase,
    order_events,
    order_violations,
)
from tests.faults.harness.order_state import (
    OrderState,
    read_order_tables,
    read_redis,
    revisions_in_redis,
)
from tests.faults.harness.orders import DEFAULT_CURRENCY, SentOrder
from tests.faults.harness.recording import Event
from tests.faults.harness.toxiproxy import Proxy
from tests.faults.harness.workload import Sent
from tests.faults.harness.world import Servers

ORDERS, PRODUCTS = "orders", "products"
PAUSE_SECONDS = 0.1


class OrderWorld(ForkedWorld):
    """A world whose workers consume the given streams, at least orders."""

    def __init__(
        self,
        directory: Path,
        servers: Servers,
        redis_url: str,
        fork_server: ForkServer,
        streams: tuple[str, ...] = (ORDERS,),
    ) -> None:
        super().__init__(directory, servers, fork_server)
        self.streams = streams
        self.arguments = [word for name in streams for word in ("--stream", name)]
        self.sent_orders: dict[str, SentOrder] = {}
        self.redis_url = redis_url
        self.redis = redis.Redis.from_url(redis_url, decode_responses=True)
        self.orders_url, self.orders_dead_url = self._create_queues(f"o-{uuid.uuid4().hex[:12]}")
        address = urlsplit(redis_url).netloc.split("@")[-1]
        self.proxies["redis"] = Proxy(servers.toxiproxy, f"{self.name}-redis", address)
        queues, proxy = self.queues, self.proxies["queue"]
        self.environment |= {
            "ORDERS_QUEUE_URL": queues.address(proxy, self.orders_url),
            "ORDERS_DEAD_LETTER_QUEUE_URL": queues.dead_letter_address(proxy, self.orders_dead_url),
            "REDIS_URL": self.proxies["redis"].in_front_of(redis_url),
            "DEFAULT_CURRENCY": DEFAULT_CURRENCY,
        }

    def close(self) -> None:
        self.redis.close()
        super().close()

    def send_all(self, messages: Sequence[Sent | SentOrder]) -> None:
        """Send each message to its own stream's queue, in this order."""
        products = [message for message in messages if isinstance(message, Sent)]
        orders = [message for message in messages if isinstance(message, SentOrder)]
        ids = self.queues.send(self.orders_url, [order.body for order in orders])
        self.sent_orders |= dict(zip(ids, orders, strict=True))
        super().send_all(products)

    def left_in_queue(self) -> int:
        return super().left_in_queue() + self.queues.left_in(self.orders_url)

    def order_events(self) -> list[Event]:
        """The events of the order stream, with the names of the product stream's."""
        return order_events(self.events())

    def wipe_redis(self) -> None:
        """Empty Redis, as a restart would."""
        self.history.add("order_redis_wiped")
        self.redis.flushall()
        self.history.add("order_redis_wiped")

    def wait_until_redis_is_right(self, seconds: float = 20.0) -> None:
        """Wait until an idle worker has filled Redis; if it does not, the verdict tells why."""

        def is_right() -> bool:
            time.sleep(0.2)
            state = self._order_state()
            revisions = {key: int(hash_["revision"]) for key, hash_ in state.hashes.items()}
            return revisions == state.revisions

        wait_until(is_right, seconds)

    def verdict(self, *, responses_were_lost: bool = False, **checks: bool) -> list[Violation]:
        case = OrderCase(
            self.events(),
            self.sent_orders,
            self._order_state(self.dead_letters_of(self.orders_dead_url)),
            may_repeat_dead_letters=self.was_killed or responses_were_lost,
        )
        violations = order_violations(case)
        if PRODUCTS in self.streams:
            violations += super().verdict(responses_were_lost=responses_were_lost, **checks)
        return violations

    @contextlib.contextmanager
    def observed(self) -> Iterator[None]:
        """Read the revisions in Redis all the time, and those of the products."""
        stopping = threading.Event()
        observer = threading.Thread(target=self._observe_redis, args=(stopping,), daemon=True)
        observer.start()
        with contextlib.ExitStack() as opened:
            opened.callback(observer.join, 10)
            opened.callback(stopping.set)
            if PRODUCTS in self.streams:
                opened.enter_context(super().observed())
            yield

    def dead_letters_of(self, queue: str) -> list[tuple[str, str]]:
        """(message id of the original, reason) of everything in a dead-letter queue."""
        letters = self.queues.letters_in(queue)
        return [(letter.get("message_id", ""), letter.get("reason", "")) for letter in letters]

    def _order_state(self, letters: Sequence[tuple[str, str]] = ()) -> OrderState:
        state = OrderState(dead_letters=list(letters), waiting=self.queues.left_in(self.orders_url))
        read_order_tables(self.database_url, state)
        state.hashes = read_redis(self.redis)
        return state

    def _observe_redis(self, stopping: threading.Event) -> None:
        calls = itertools.count(1)
        while not stopping.wait(PAUSE_SECONDS):
            call = next(calls)
            self.history.add("order_observe", call=call)
            revisions: Any = revisions_in_redis(self.redis)
            self.history.add("order_observed", call=call, revisions=revisions)
