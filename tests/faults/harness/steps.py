"""The places inside a worker where a fault can strike: around the methods of its components.

In the order in which a message meets them: ``receive``, ``after_receive``, ``after_validate``,
``after_look_up``, ``during_fetch``, ``after_fetch``, ``after_start``, ``after_start_alone``,
``after_decode``, ``during_embed``, ``after_embed``, ``before_finish``, ``after_finish``,
``before_record``, ``during_record_commit``, ``after_record``, ``before_`` and ``after_milvus``,
``before_`` and ``after_elasticsearch``, ``before_verify``, ``after_verify``,
``before_acknowledge``, ``after_acknowledge``, ``before_reject``, ``during_reject`` (the copy is
sent, the message is not deleted), ``after_reject``. Beside them: ``sweep``, ``before_clear``,
``extend``, ``load_model``.

Switches: ``no_heartbeats``; ``retry_after:<seconds>`` instead of growing pauses;
``stage_limit:<seconds>`` for every stage of every thread.
"""

import functools
import sys
from typing import Any

import sqlalchemy
from sqlalchemy.engine import Connection, Engine

from product_consumer.images.decoder import ImageDecoder
from product_consumer.images.fetcher import ImageFetcher
from product_consumer.ledger.in_progress import InProgress
from product_consumer.ledger.ledger import Ledger
from product_consumer.ledger.pending_checks import PendingChecks
from product_consumer.pipeline import error_policy
from product_consumer.products.parser import ProductParser
from product_consumer.queues.in_flight import InFlightTracker
from product_consumer.runtime import worker
from tests.faults.harness.faults import Fault


def plant(fault: Fault) -> None:
    """Let the fault strike in this process."""
    embedding: Any = sys.modules["product_consumer.embedding.embedder"]
    places: tuple[tuple[Any, str, str, str], ...] = (
        (ProductParser, "parse", "", "after_validate"),
        (Ledger, "look_up", "", "after_look_up"),
        (ImageFetcher, "fetch_all", "during_fetch", "after_fetch"),
        (InProgress, "start", "", "after_start"),
        (InProgress, "start_alone", "", "after_start_alone"),
        (InProgress, "finish", "before_finish", "after_finish"),
        (ImageDecoder, "decode", "", "after_decode"),
        (embedding.Embedder, "embed", "during_embed", "after_embed"),
        (embedding, "load_embedder", "load_model", ""),
        (PendingChecks, "claim", "sweep", ""),
        (PendingChecks, "clear", "before_clear", ""),
        (InFlightTracker, "extend_due", "extend", ""),
    )
    for owner, name, before, after in places:
        setattr(owner, name, _surrounded(getattr(owner, name), fault, before, after))
    _watch_commits(fault)
    _set_switches(fault)


def _surrounded(action: Any, fault: Fault, before: str, after: str) -> Any:
    @functools.wraps(action)
    def surrounded(*arguments: Any, **options: Any) -> Any:
        fault.at(before)
        result = action(*arguments, **options)
        fault.at(after)
        return result

    return surrounded


def _watch_commits(fault: Fault) -> None:
    """Strike at the commit that records a batch.

    In a transaction that is before the commit. A statement that is a transaction of its own has
    committed by then.
    """

    def on_statement(connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        if "INSERT INTO price_history" not in statement:
            return
        if getattr(cursor.connection, "autocommit", False) is True:
            fault.at("during_record_commit")
        connection.info["records"] = True

    def on_commit(connection: Connection) -> None:
        if connection.info.pop("records", False):
            fault.at("during_record_commit")

    sqlalchemy.event.listen(Engine, "after_cursor_execute", on_statement)
    sqlalchemy.event.listen(Engine, "commit", on_commit)


def _set_switches(fault: Fault) -> None:
    trackers: Any = InFlightTracker
    if fault.switch("no_heartbeats") is not None:
        trackers.extend_due = lambda _tracker: None
    retry_after = fault.switch("retry_after")
    if retry_after is not None:
        vars(error_policy)["exponential_delay_seconds"] = lambda _count: float(retry_after)
    stage_limit = fault.switch("stage_limit")
    if stage_limit is not None:
        timeouts = vars(worker)["stage_timeouts"]

        def short_timeouts(**bounds: float) -> dict[str, float]:
            return dict.fromkeys(timeouts(**bounds), float(stage_limit))

        vars(worker)["stage_timeouts"] = short_timeouts
