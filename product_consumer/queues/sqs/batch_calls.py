"""Batch calls of SQS: every entry of a response is read, and failed entries are sent again."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from threading import Event
from typing import Any, TypeVar

from product_consumer.queues.sqs.error_codes import bare_code

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
MAX_ENTRIES = 10
# Since August 2025 AWS allows 1 MiB for a batch; older servers and regions allow a quarter of it.
MAX_BATCH_BYTES = 262_144
MAX_RETRIES = 3
_FIRST_PAUSE_SECONDS = 0.1

T = TypeVar("T")
Entry = dict[str, Any]
"""One entry of a batch call; its ``Id`` is unique within the call."""


def call_batch(
    call: Callable[[Sequence[Any]], Any],
    entries: Sequence[Entry],
    closing: Event,
    final_codes: Collection[str] = (),
) -> dict[str, str]:
    """Make a batch call; repeat it for the entries that failed, at most ``MAX_RETRIES`` times.

    Returns the error code of each entry that failed in the end, by entry id. An entry that failed
    with one of ``final_codes`` is not repeated; once ``closing`` is set, no entry is. An entry that
    the response leaves out has failed (``NoAnswer``): it was not confirmed.
    """
    failed: dict[str, str] = {}
    for attempt in range(MAX_RETRIES + 1):
        if attempt and closing.wait(_FIRST_PAUSE_SECONDS * 2 ** (attempt - 1)):
            break
        failed |= _codes_by_id(call(entries), entries)
        entries = [entry for entry in entries if _try_again(failed.get(entry["Id"]), final_codes)]
        if not entries:
            break
    return {entry_id: code for entry_id, code in failed.items() if code}


def sendable_batches(items: Iterable[T], size_bytes: Callable[[T], int]) -> Iterator[list[T]]:
    """Yield batches of up to ``MAX_ENTRIES`` items that fit a call; an item too large is alone."""
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


def _codes_by_id(response: Any, entries: Sequence[Entry]) -> dict[str, str]:
    """Return the error code of each entry, empty where it succeeded."""
    codes = dict.fromkeys((entry["Id"] for entry in entries), "NoAnswer")
    for failure in response.get("Failed", []):
        codes[failure["Id"]] = bare_code(failure.get("Code", "")) or "NoCode"
    for success in response.get("Successful", []):
        codes[success["Id"]] = ""
    return codes


def _try_again(code: str | None, final_codes: Collection[str]) -> bool:
    return bool(code) and code not in final_codes
