"""Rebuilds and verifies the totals in Redis from the ledger, page by page, beside a worker."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from product_consumer.orders.ledger import OrderLedger
from product_consumer.orders.redis.stats import REVISION, RedisStats, StatsHash

MAX_EXAMPLES = 20

Progress = Callable[[int, int], None]
"""Called with (hashes done, hashes in all) after each page."""


@dataclass(slots=True)
class Verification:
    """The result of comparing Redis with the ledger, in hashes."""

    compared: int = 0
    differing: int = 0
    unknown: int = 0
    """Keys of ours in Redis for users that the ledger does not know."""
    examples: list[str] = field(default_factory=list)
    """Some of the keys that differ or are unknown, ``MAX_EXAMPLES`` at most."""

    @property
    def is_right(self) -> bool:
        return not self.differing and not self.unknown

    def add_examples(self, keys: list[str]) -> None:
        """Name keys, as far as there is room."""
        self.examples += keys[: MAX_EXAMPLES - len(self.examples)]


def rebuild_stats(
    ledger: OrderLedger, stats: RedisStats, progress: Progress, *, force: bool = False
) -> int:
    """Write every total of the ledger to Redis; return how many hashes were written.

    A worker may go on meanwhile: a hash that is newer by then stays. ``force`` overwrites newer
    hashes and removes users that the ledger does not know, for a ledger that came back from a
    backup. No worker may run then.
    """
    written = 0
    done, total = 0, ledger.counts().users + 1
    for page in _pages(ledger, stats):
        written += stats.write(page, force=force)
        done += len(page)
        progress(done, max(done, total))
    if force:
        stats.delete(_unknown_keys(ledger, stats))
    return written


def verify_stats(ledger: OrderLedger, stats: RedisStats, progress: Progress) -> Verification:
    """Compare every hash with the ledger.

    A hash that differs is read again, first from the ledger, then from Redis: a worker may have
    counted an order between the first two reads.
    """
    result = Verification()
    total = ledger.counts().users + 1
    for page in _pages(ledger, stats):
        differing = _differing(stats, page)
        if differing:
            differing = _differing(stats, [_current(ledger, stats, hash_) for hash_ in differing])
        result.compared += len(page)
        result.add_examples([hash_.key for hash_ in differing])
        result.differing += len(differing)
        progress(result.compared, max(result.compared, total))
    unknown = _unknown_keys(ledger, stats)
    result.unknown = len(unknown)
    result.add_examples(unknown)
    return result


def _pages(ledger: OrderLedger, stats: RedisStats) -> Iterator[list[StatsHash]]:
    for page in ledger.user_pages():
        yield [stats.of_user(totals) for totals in page.values()]
    yield [stats.of_everyone(ledger.global_stats())]


def _differing(stats: RedisStats, hashes: list[StatsHash]) -> list[StatsHash]:
    held = stats.read([hash_.key for hash_ in hashes])
    pairs = zip(hashes, held, strict=True)
    return [hash_ for hash_, fields in pairs if not _is_equal(hash_, fields)]


def _is_equal(hash_: StatsHash, held: dict[str, str] | None) -> bool:
    return held is not None and held == {**hash_.fields, REVISION: str(hash_.revision)}


def _current(ledger: OrderLedger, stats: RedisStats, hash_: StatsHash) -> StatsHash:
    user_id = stats.user_id_of(hash_.key)
    if user_id is None:
        return stats.of_everyone(ledger.global_stats())
    return stats.of_user(ledger.user_stats(user_id))


def _unknown_keys(ledger: OrderLedger, stats: RedisStats) -> list[str]:
    unknown = []
    for key in set(stats.user_keys()):
        user_id = stats.user_id_of(key)
        if user_id is not None and not ledger.user_stats(user_id):
            unknown.append(key)
    return sorted(unknown)
