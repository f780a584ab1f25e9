"""Commands on rejected messages: ``dlq list``, ``dlq show``, ``dlq redrive``."""

import json
import signal
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from functools import partial
from types import FrameType
from typing import IO, TYPE_CHECKING, Annotated, Any, NoReturn, Self

import typer

from product_consumer.cli.configuration import command_settings
from product_consumer.cli.dead_letter_views import (
    body_bytes,
    message_as_json,
    message_line,
    message_lines,
    plural,
)
from product_consumer.runtime.exit_codes import EXIT_USAGE
from product_consumer.settings import Settings
from product_consumer.streams import StreamName
from product_consumer.text import printable

if TYPE_CHECKING:
    from product_consumer.queues.base import Sender
    from product_consumer.queues.dead_letters.redrive import (
        Collected,
        DeadLetters,
        RejectedMessage,
        Step,
    )

app = typer.Typer(
    no_args_is_help=True,
    help="Rejected messages of the products' queue, or of the orders' (--stream orders): in its "
    "dead-letter queue, or in DATA_DIR/rejected.jsonl where there is none. To be looked at, "
    "messages of a queue are hidden for a moment and given back; each look raises their receive "
    "counts by one.",
)

EXIT_INCOMPLETE = 1
_PROGRESS_EVERY = 100

Chosen = Annotated[StreamName, typer.Option("--stream", help="Whose queue it is.")]

Reason = Annotated[
    str | None, typer.Option(metavar="PREFIX", help="Only reasons that begin like this.")
]
Limit = Annotated[
    int, typer.Option(min=1, max=100_000, help="Most messages to look at, and to hold in memory.")
]
FromFile = Annotated[
    bool, typer.Option("--file", help="DATA_DIR/rejected.jsonl, also where there is a queue.")
]


@app.command("list")
def list_messages(
    reason: Reason = None,
    limit: Limit = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
    from_file: FromFile = False,
    stream: Chosen = StreamName.PRODUCTS,
) -> None:
    """List rejected messages, oldest first, and count them by reason."""
    with _opened(command_settings(), stream, limit, from_file) as (place, signals):
        found = place.collect(partial(_is_wanted, reason=reason), limit, signals.was_received)
    for message in found.messages:
        print(json.dumps(message_as_json(message)) if as_json else message_line(message))
    _summarize(found, place.label, limit, sys.stderr if as_json else sys.stdout)
    if signals.received:
        raise typer.Exit(EXIT_INCOMPLETE)


@app.command()
def show(
    message_id: Annotated[str, typer.Argument(metavar="ID", help="As list shows it.")],
    raw: Annotated[bool, typer.Option(help="Only the body, byte for byte.")] = False,
    limit: Limit = 1000,
    from_file: FromFile = False,
    stream: Chosen = StreamName.PRODUCTS,
) -> None:
    """Show everything about one rejected message."""
    with _opened(command_settings(), stream, limit, from_file) as (place, signals):
        found = place.collect(partial(_is_wanted, ids=[message_id]), limit, signals.was_received)
    if not found.messages:
        print(f"No message {printable(message_id)!r} in {place.label}", file=sys.stderr)
        _tell_limits(found, limit, sys.stderr)
        raise typer.Exit(EXIT_INCOMPLETE)
    for message in found.messages[: 1 if raw else None]:
        if raw:
            sys.stdout.buffer.write(body_bytes(message.body))
        else:
            print("\n".join(message_lines(message)))


@app.command()
def redrive(
    reason: Reason = None,
    ids: Annotated[
        list[str] | None, typer.Option("--id", metavar="ID", help="This one; may be repeated.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Whatever their reason is.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    limit: Limit = 1000,
    from_file: FromFile = False,
    stream: Chosen = StreamName.PRODUCTS,
) -> None:
    """Send rejected messages back to QUEUE_URL, of orders to ORDERS_QUEUE_URL, unchanged, and
    then delete them here.

    They are ordered as when they were first sent. Messages of another queue are left, unless --id
    names them.
    """
    from product_consumer.queues.opening import open_sender

    if everything == bool(reason or ids):
        _refuse("Give either --all, or --reason or --id")
    if not yes and not _is_interactive():
        _refuse("Nobody to ask: give --yes")
    settings = command_settings()
    with (
        closing(open_sender(settings, settings.queue_of(stream))) as sender,
        _opened(settings, stream, limit, from_file) as (place, signals),
    ):
        target = sender.queue_name
        wanted = partial(_is_wanted, reason=reason, ids=ids or (), source_queue=target)
        found = place.collect(wanted, limit, signals.was_received)
        _tell_limits(found, limit, sys.stderr)
        if found.messages and not yes and not signals.received:
            count = plural(len(found.messages), "message")
            signals.ask(f"Redrive {count} from {place.label} to {target}?")
        failed_count = _redrive(sender, place, found, signals)
        if failed_count or signals.received:
            raise typer.Exit(EXIT_INCOMPLETE)


def _redrive(
    sender: "Sender", place: "DeadLetters", found: "Collected", signals: "_Signals"
) -> int:
    """Redrive what was found; print progress and what became of it; return how many failed."""
    from product_consumer.queues.dead_letters.redrive import redrive as redrive_messages

    tally = _Tally(len(found.messages), found.others_count)
    try:
        for step in redrive_messages(place, found.messages, sender, signals.was_received):
            tally.add(step)
    finally:
        tally.summarize()
    return tally.failed_count


class _Tally:
    """Prints failures and progress as they come, and in the end what became of all messages."""

    def __init__(self, chosen_count: int, others_count: int) -> None:
        self.redriven_count = self.failed_count = 0
        self._chosen_count = chosen_count
        self._others_count = others_count

    def add(self, step: "Step") -> None:
        for message_id, code in step.failed:
            print(f"{printable(message_id)} was not sent: {code}", file=sys.stderr)
        self.failed_count += len(step.failed)
        before = self.redriven_count
        self.redriven_count += step.redriven_count
        if self.redriven_count // _PROGRESS_EVERY > before // _PROGRESS_EVERY:
            print(f"{self.redriven_count} of {self._chosen_count} redriven", file=sys.stderr)

    def summarize(self) -> None:
        settled_count = self.redriven_count + self.failed_count
        left_count = self._chosen_count + self._others_count - settled_count
        print(f"Redriven {self.redriven_count}, failed {self.failed_count}, left {left_count}")


class _Signals:
    """Notes the first SIGINT, SIGTERM or SIGHUP, so that a look ends between two calls and nothing
    that was received is forgotten. A second one is a ``KeyboardInterrupt``, and so is the first
    while a question is asked.
    """

    def __init__(self) -> None:
        # No Event: a handler may not take a lock that the interrupted code holds.
        self.received = False
        self._asking = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def was_received(self) -> bool:
        return self.received

    def ask(self, question: str) -> None:
        """Return when the answer is yes, else raise ``typer.Abort``."""
        self._asking = True
        try:
            typer.confirm(question, abort=True)
        finally:
            self._asking = False

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        if self.received or self._asking:
            raise KeyboardInterrupt
        self.received = True


def _is_interactive() -> bool:
    return sys.stdin.isatty()


def _is_wanted(
    message: "RejectedMessage",
    *,
    reason: str | None = None,
    ids: Collection[str] = (),
    source_queue: str = "",
) -> bool:
    if ids:
        is_named = message.id in ids or any(copy.message_id in ids for copy in message.copies)
    else:
        # The file has rejected messages of every queue, and a dead-letter queue may serve several.
        is_named = not source_queue or message.source_queue in ("", source_queue)
    return is_named and message.reason.startswith(reason or "")


@contextmanager
def _opened(
    settings: Settings, stream: StreamName, limit: int, from_file: bool
) -> Iterator[tuple["DeadLetters", "_Signals"]]:
    """The place to look at; whatever is held there is given back on leaving."""
    from product_consumer.queues.dead_letters.queue import open_dead_letters

    place = open_dead_letters(settings, stream, limit=limit, from_file=from_file)
    with _Signals() as signals:
        try:
            yield place, signals
        finally:
            place.close()


def _summarize(found: "Collected", label: str, limit: int, output: IO[str]) -> None:
    print(f"{plural(len(found.messages), 'message')} in {printable(label)}", file=output)
    reasons = Counter(message.reason for message in found.messages)
    for reason, count in sorted(reasons.items(), key=lambda each: (-each[1], each[0])):
        print(f"{count:6d}  {printable(reason)}", file=output)
    _tell_limits(found, limit, output)


def _tell_limits(found: "Collected", limit: int, output: IO[str]) -> None:
    if found.unreadable_count:
        print(f"{plural(found.unreadable_count, 'line')} cannot be read", file=output)
    if not found.is_complete:
        print(f"Not everything was looked at (--limit {limit}): more may wait", file=output)


def _refuse(problem: str) -> NoReturn:
    print(problem, file=sys.stderr)
    raise typer.Exit(EXIT_USAGE)
