"""Batch calls of SQS: every entry of the answer is read, and those that failed are tried again."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from threading import Event
from typing import Any, TypeVar

from product_consumer.queues.sqs.error_codes import bare_code

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
MAX_ENTRIES = 10
# AWS allows 1 MiB for a batch since August 2025; servers and regions behind it, a quarter of that.
MAX_BATCH_BYTES = 262_144
MAX_RETRIES = 3
_FIRST_PAUSE_SECONDS = 0.1

T = TypeVar("T")
Entry = dict[str, Any]
"""One entry of a batch call; its ``Id`` is unlike the others' of the call."""


def call_batch(
    call: Callable[[Sequence[Any]], Any],
    entries: Sequence[Entry],
    closing: Event,
    final_codes: Collection[str] = (),
) -> dict[str, str]:
    """Make a batch call, again for the entries that failed, at most ``MAX_RETRIES`` times.

    Returns the code of each entry that failed in the end, by entry id. ``final_codes`` are not
    tried again, and nothing is once ``closing`` is set. An entry that the answer leaves out has
    failed (``NoAnswer``): what is not confirmed has not happened.
    """
    failed: dict[str, str] = {}
    for attempt in range(MAX_RETRIES + 1):
        if attempt and closing.wait(_FIRST_PAUSE_SECONDS * 2 ** (attempt - 1)):
            break
        failed |= _failed_once(call(entries), entries)
        entries = [entry for entry in entries if _try_again(failed.get(entry["Id"]), final_codes)]
        if not entries:
            break
    return {entry_id: code for entry_id, code in failed.items() if code}


def sendable_batches(items: Iterable[T], size_bytes: Callable[[T], int]) -> Iterator[list[T]]:
    """Yield up to ``MAX_ENTRIES`` items at a time that fit a call; one too large goes alone."""
    batch: list[T] = []
    batch_bytes = 0
    for item in items:
        item_bytes = size_bytes(item)
        if batch and (len(batch) == MAX_ENTRIES or batch_bytes + item_bytes > MAX_BATCH_BYTES):
            yield batch
            batch, batch_bytes = [], 0
        batch.append(item)
        batch_bytes += item_bytes
    if batch:
        yield batch


def _failed_once(answer: Any, entries: Sequence[Entry]) -> dict[str, str]:
    """The code of each entry, empty for those that succeeded."""
    codes = dict.fromkeys((entry["Id"] for entry in entries), "NoAnswer")
    for failure in answer.get("Failed", []):
        codes[failure["Id"]] = bare_code(failure.get("Code", "")) or "NoCode"
    for success in answer.get("Successful", []):
        codes[success["Id"]] = ""
    return codes


def _try_again(code: str | None, final_codes: Collection[str]) -> bool:
    return bool(code) and code not in final_codes
