"""Rebuild and verify what Redis shows, from the ledger, page by page, beside a running worker."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from product_consumer.orders.ledger import OrderLedger
from product_consumer.orders.redis_stats import REVISION, RedisStats, StatsHash

MAX_EXAMPLES = 20

Progress = Callable[[int, int], None]
"""Told (hashes done, hashes in all) after each page."""


@dataclass(slots=True)
class Verification:
    """What a comparison found. ``examples`` names some of the keys that differ."""

    compared: int = 0
    differing: int = 0
    unknown: int = 0
    """Keys of ours in Redis for users that the ledger does not know."""
    examples: list[str] = field(default_factory=list)

    @property
    def is_right(self) -> bool:
        return not self.differing and not self.unknown


def rebuild_stats(
    ledger: OrderLedger, stats: RedisStats, progress: Progress, *, force: bool = False
) -> int:
    """Write every total of the ledger to Redis; return how many hashes were written.

    A running worker may go on: a hash that is newer by then stays. ``force`` overwrites it, for a
    ledger that came back from a backup, and removes users the ledger does not know; then no worker
    may run.
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

    One that differs is looked at again, from the ledger on, because a running worker may have
    counted between the two looks.
    """
    result = Verification()
    total = ledger.counts().users + 1
    for page in _pages(ledger, stats):
        differing = _differing(stats, page)
        if differing:
            differing = _differing(stats, [_again(ledger, stats, one) for one in differing])
        result.compared += len(page)
        _note(result, [one.key for one in differing])
        result.differing += len(differing)
        progress(result.compared, max(result.compared, total))
    unknown = _unknown_keys(ledger, stats)
    result.unknown = len(unknown)
    _note(result, unknown)
    return result


def _pages(ledger: OrderLedger, stats: RedisStats) -> Iterator[list[StatsHash]]:
    for page in ledger.user_pages():
        yield [stats.of_user(each) for each in page.values()]
    yield [stats.of_everyone(ledger.global_stats())]


def _differing(stats: RedisStats, wanted: list[StatsHash]) -> list[StatsHash]:
    found = stats.read([one.key for one in wanted])
    return [one for one, held in zip(wanted, found, strict=True) if not _equals(one, held)]


def _equals(wanted: StatsHash, held: dict[str, str] | None) -> bool:
    return held is not None and held == {**wanted.fields, REVISION: str(wanted.revision)}


def _again(ledger: OrderLedger, stats: RedisStats, shown: StatsHash) -> StatsHash:
    user_id = stats.user_id_of(shown.key)
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


def _note(result: Verification, keys: list[str]) -> None:
    result.examples += keys[: MAX_EXAMPLES - len(result.examples)]
