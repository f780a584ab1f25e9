"""The ledger's totals in Redis, for dashboards.

Hash ``user:<user_id>``: ``order_count`` and ``total_spend``; hash ``global:stats``:
``total_orders`` and ``total_revenue``. These hold the main currency (``DEFAULT_CURRENCY``); every
other currency has fields of its own, ``total_spend:EUR`` and so on: amounts of two currencies are
never added up. Money is a decimal string with the currency's own number of decimals.

Only absolute values are written, each hash by one script that refuses an older ``revision``. So a
write may be repeated, delayed or overtaken without harm. Nothing is remembered here, and a Redis
that lost everything is rebuilt from the ledger. Adding in Redis would count a redelivered order
twice, and HINCRBYFLOAT drifts.
"""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from product_consumer.errors import ProductConsumerError
from product_consumer.money import money_text
from product_consumer.orders.models import GlobalStats, UserStats
from product_consumer.orders.redis import scripts
from product_consumer.orders.redis.client import RedisClient
from product_consumer.orders.redis.errors import is_wrong_type, mistyped
from product_consumer.settings import Settings

GLOBAL_KEY = "global:stats"
USER_PREFIX = "user:"
REVISION = "revision"
FILL_KEY = "order-stats"
"""A hash with the field ``filled`` while Redis holds every total, and a field for each filler. A
Redis that lost its data lost these fields too. Their value is the run of the server that wrote
them: after a restart or a failover Redis may hold an older snapshot of everything.
"""
PROBE_KEY = "user::probe"
"""A key of no user, since no id has a colon. It is never seen: see ``RedisStats.probe``."""

_PROBE_FIELD = "probe"
_KEYS_PER_CALL = 200
_MAX_REFUSED = _KEYS_PER_CALL


@dataclass(frozen=True, slots=True)
class StatsHash:
    """The wanted content of one key."""

    key: str
    revision: int
    """The ledger's revision of these totals."""
    fields: Mapping[str, str]
    """All fields but ``revision``."""


def open_redis_stats(settings: Settings) -> "RedisStats | None":
    """Return the Redis that the settings name, or None; connects to nothing yet."""
    if settings.redis_url is None:
        return None
    return RedisStats(
        settings.redis_url.get_secret_value(),
        main_currency=settings.default_currency,
        timeout_seconds=settings.store_timeout_seconds,
        connections=settings.threads + 2,
    )


class RedisStats:
    """The totals of orders in one Redis, or Redis Cluster. Thread-safe.

    Every method but ``close`` may raise ``StoreUnavailable("redis")`` while Redis is down, busy or
    refuses writes that it will take later. It raises ``ConfigurationError("REDIS_URL")`` where a
    person has to fix something: a refused password or command, or a key of another type.
    """

    def __init__(
        self, url: str, *, main_currency: str, timeout_seconds: float, connections: int = 12
    ) -> None:
        self._server = RedisClient(url, timeout_seconds=timeout_seconds, connections=connections)
        self._main_currency = main_currency
        self._refused: dict[str, None] = {}
        """Keys that refused a write, ``_MAX_REFUSED`` at most: one shard may refuse alone."""
        self._outages_when_filled: int | None = None

    def probe(self) -> None:
        """Raise while Redis refuses any part of the work; change nothing that a reader sees.

        Runs the commands of the work on a key of each kind, and on every key that refused a write,
        until it takes one again: it may be on another shard, or of another type.
        """
        keys = {PROBE_KEY, GLOBAL_KEY, FILL_KEY, *list(self._refused)}
        for script in (scripts.TRY_COMMANDS, scripts.TRY_WRITE):
            failures, _ = self._run_each(script, [(key, [_PROBE_FIELD]) for key in sorted(keys)])
            if failures:
                raise failures[0]

    def describe(self) -> str:
        """Return, for people, which kind of server answers; raises as ``probe`` does."""
        self.probe()
        return "Redis Cluster" if self._server.is_cluster else "Redis"

    def is_filled(self) -> bool:
        """False for a Redis that is new, was emptied, or has been restarted or replaced since."""
        reply = self._run_on_fill_key(scripts.IS_FILLED)
        return reply == 2 or (reply == 1 and self._outages_when_filled == self._server.outages)

    def start_filling(self) -> str:
        """Record that Redis is being filled; return the filler's name for ``finish_filling``."""
        filler = uuid.uuid4().hex
        self._run_on_fill_key(scripts.START_FILLING, filler)
        # A server that does not tell its run may be another one after any outage.
        self._outages_when_filled = self._server.outages
        return filler

    def finish_filling(self, filler: str) -> bool:
        """Record that every total is written; False when Redis may have lost data meanwhile."""
        reply = self._run_on_fill_key(scripts.FINISH_FILLING, filler)
        return reply == 2 or (reply == 1 and self._outages_when_filled == self._server.outages)

    def write(self, hashes: Sequence[StatsHash], *, force: bool = False) -> int:
        """Write each hash unless Redis has a newer one; return how many hashes were written.

        ``force``: write even over a greater revision, as after the ledger came back from a backup.
        When one key fails the others are still written, and the first failure is raised.
        """
        written = 0
        failures: list[ProductConsumerError] = []
        for start in range(0, len(hashes), _KEYS_PER_CALL):
            group = hashes[start : start + _KEYS_PER_CALL]
            calls = [(hash_.key, _arguments(hash_, force)) for hash_ in group]
            failed, replies = self._run_each(scripts.WRITE, calls)
            failures += failed
            written += sum(replies)
        if failures:
            raise failures[0]
        return written

    def read(self, keys: Sequence[str]) -> list[dict[str, str] | None]:
        """Return the fields of each key; None for a key that is missing or no hash."""
        hashes: list[dict[str, str] | None] = []
        with self._server.connected() as client:
            pipeline = self._server.pipeline(client)
            for key in keys:
                pipeline.hgetall(key)
            for reply in pipeline.execute(raise_on_error=False):
                if isinstance(reply, Exception) and not is_wrong_type(reply):
                    raise reply
                hashes.append(reply if isinstance(reply, dict) and reply else None)
        return hashes

    def user_keys(self) -> Iterator[str]:
        """Yield the keys named ``user:...`` that carry our revision; some may come twice."""
        with self._server.connected() as client:
            for key in client.scan_iter(match=f"{USER_PREFIX}*", count=1000, _type="HASH"):
                if client.hexists(key, REVISION):
                    yield str(key)

    def delete(self, keys: Iterable[str]) -> None:
        """Remove keys."""
        with self._server.connected() as client:
            for key in keys:
                client.delete(key)

    def of_user(self, stats: Sequence[UserStats]) -> StatsHash:
        """Return the hash ``user:<id>`` for one user's totals in all currencies (at least one)."""
        rows = [(total.currency, total.order_count, total.spend_minor) for total in stats]
        fields = self._fields("order_count", "total_spend", rows)
        key = f"{USER_PREFIX}{stats[0].user_id}"
        return StatsHash(key, sum(total.revision for total in stats), fields)

    def of_everyone(self, stats: Sequence[GlobalStats]) -> StatsHash:
        """Return the hash ``global:stats`` for the totals of all users in all currencies."""
        rows = [(total.currency, total.total_orders, total.revenue_minor) for total in stats]
        fields = self._fields("total_orders", "total_revenue", rows)
        return StatsHash(GLOBAL_KEY, sum(total.revision for total in stats), fields)

    @staticmethod
    def user_id_of(key: str) -> str | None:
        """Return whose hash this is; None for any other key."""
        return key.removeprefix(USER_PREFIX) if key.startswith(USER_PREFIX) else None

    def close(self) -> None:
        """Close all connections."""
        self._server.close()

    def _fields(
        self, count_name: str, money_name: str, rows: Iterable[tuple[str, int, int]]
    ) -> dict[str, str]:
        fields: dict[str, str] = {}
        if self._main_currency:
            # Readers of the main fields find them even where all orders are in other currencies.
            fields = {count_name: "0", money_name: money_text(0, self._main_currency)}
        for currency, count, minor in rows:
            suffix = "" if currency == self._main_currency else f":{currency}"
            fields[f"{count_name}{suffix}"] = str(count)
            fields[f"{money_name}{suffix}"] = money_text(minor, currency)
        return fields

    def _run_each(
        self, script: str, calls: Sequence[tuple[str, Sequence[str]]]
    ) -> tuple[list[ProductConsumerError], list[int]]:
        """Run a script on keys, each with its arguments; return the failures and the replies."""
        with self._server.connected() as client:
            pipeline = self._server.pipeline(client)
            for key, arguments in calls:
                self._server.add_script(client, pipeline, script, key, *arguments)
            replies: list[Any] = pipeline.execute(raise_on_error=False)
        failures: list[ProductConsumerError] = []
        for (key, _), reply in zip(calls, replies, strict=True):
            if not isinstance(reply, Exception):
                self._refused.pop(key, None)
                continue
            if len(self._refused) < _MAX_REFUSED:
                self._refused[key] = None
            if is_wrong_type(reply):
                failures.append(mistyped(key, reply))
            else:
                failures.append(self._server.failure(client, reply, f"EVAL on the key {key!r}"))
        return failures, [int(reply) for reply in replies if not isinstance(reply, Exception)]

    def _run_on_fill_key(self, script: str, *arguments: str) -> int:
        failures, replies = self._run_each(script, [(FILL_KEY, arguments)])
        if failures:
            raise failures[0]
        return replies[0]


def _arguments(hash_: StatsHash, force: bool) -> list[str]:
    fields = [text for field in hash_.fields.items() for text in field]
    return [str(hash_.revision), str(int(force)), *fields]
