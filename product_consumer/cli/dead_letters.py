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
from product_consumer.queue_addresses import StreamName
from product_consumer.runtime.exit_codes import EXIT_USAGE
from product_consumer.settings import Settings
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
    help="Rejected messages of the product queue, or of the order queue (--stream orders): in its "
    "dead-letter queue, or in DATA_DIR/rejected.jsonl where there is none. Each command receives "
    "the messages of a queue, hides them meanwhile and gives them back: their receive counts rise "
    "by one.",
)

EXIT_INCOMPLETE = 1
_PROGRESS_EVERY = 100

Chosen = Annotated[StreamName, typer.Option("--stream", help="Whose queue it is.")]

Reason = Annotated[
    str | None, typer.Option(metavar="PREFIX", help="Only reasons that begin like this.")
]
Limit = Annotated[
    int, typer.Option(min=1, max=100_000, help="Most messages to read, and to hold in memory.")
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
    with _opened(command_settings(), stream, limit, from_file) as (dead_letters, signals):
        is_selected = partial(_is_selected, reason=reason)
        collected = dead_letters.collect(is_selected, limit, signals.was_received)
    for message in collected.messages:
        print(json.dumps(message_as_json(message)) if as_json else message_line(message))
    _summarize(collected, dead_letters.label, limit, sys.stderr if as_json else sys.stdout)
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
    with _opened(command_settings(), stream, limit, from_file) as (dead_letters, signals):
        is_selected = partial(_is_selected, ids=[message_id])
        collected = dead_letters.collect(is_selected, limit, signals.was_received)
    if not collected.messages:
        print(f"No message {printable(message_id)!r} in {dead_letters.label}", file=sys.stderr)
        _tell_limits(collected, limit, sys.stderr)
        raise typer.Exit(EXIT_INCOMPLETE)
    for message in collected.messages[: 1 if raw else None]:
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
        _opened(settings, stream, limit, from_file) as (dead_letters, signals),
    ):
        target = sender.queue_name
        is_selected = partial(_is_selected, reason=reason, ids=ids or (), source_queue=target)
        collected = dead_letters.collect(is_selected, limit, signals.was_received)
        _tell_limits(collected, limit, sys.stderr)
        if collected.messages and not yes and not signals.received:
            count = plural(len(collected.messages), "message")
            signals.ask(f"Redrive {count} from {dead_letters.label} to {target}?")
        failed_count = _redrive(sender, dead_letters, collected, signals)
        if failed_count or signals.received:
            raise typer.Exit(EXIT_INCOMPLETE)


def _redrive(
    sender: "Sender", dead_letters: "DeadLetters", collected: "Collected", signals: "_Signals"
) -> int:
    """Redrive the collected messages; print progress and the result; return how many failed."""
    from product_consumer.queues.dead_letters.redrive import redrive as redrive_messages

    tally = _Tally(len(collected.messages), collected.others_count)
    try:
        for step in redrive_messages(
            dead_letters, collected.messages, sender, signals.was_received
        ):
            tally.add(step)
    finally:
        tally.summarize()
    return tally.failed_count


class _Tally:
    """Counts of a redrive; prints failures and progress as they come, and the result at the end."""

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
    """Context manager that records the first SIGINT, SIGTERM or SIGHUP instead of ending at once.

    So a command ends between two calls and gives back every message that it received. A second
    signal is a ``KeyboardInterrupt``; so is the first while a question is asked.
    """

    def __init__(self) -> None:
        # No Event: a handler may not take a lock that the interrupted code holds.
        self.received = False
        self._asking = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._previous[number] = signal.signal(number, self._record)
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

    def _record(self, _number: int, _frame: FrameType | None) -> None:
        if self.received or self._asking:
            raise KeyboardInterrupt
        self.received = True


def _is_interactive() -> bool:
    return sys.stdin.isatty()


def _is_selected(
    message: "RejectedMessage",
    *,
    reason: str | None = None,
    ids: Collection[str] = (),
    source_queue: str = "",
) -> bool:
    if ids:
        is_named = message.id in ids or any(copy.message_id in ids for copy in message.copies)
    else:
        # The file has messages of every queue, and a dead-letter queue may serve several queues.
        is_named = not source_queue or message.source_queue in ("", source_queue)
    return is_named and message.reason.startswith(reason or "")


@contextmanager
def _opened(
    settings: Settings, stream: StreamName, limit: int, from_file: bool
) -> Iterator[tuple["DeadLetters", "_Signals"]]:
    """Yield the place where messages wait; the messages held there are released on leaving."""
    from product_consumer.queues.dead_letters.queue import open_dead_letters

    dead_letters = open_dead_letters(settings, stream, limit=limit, from_file=from_file)
    with _Signals() as signals:
        try:
            yield dead_letters, signals
        finally:
            dead_letters.close()


def _summarize(collected: "Collected", label: str, limit: int, output: IO[str]) -> None:
    print(f"{plural(len(collected.messages), 'message')} in {printable(label)}", file=output)
    reasons = Counter(message.reason for message in collected.messages)
    for reason, count in sorted(reasons.items(), key=lambda row: (-row[1], row[0])):
        print(f"{count:6d}  {printable(reason)}", file=output)
    _tell_limits(collected, limit, output)


def _tell_limits(collected: "Collected", limit: int, output: IO[str]) -> None:
    if collected.unreadable_count:
        print(f"{plural(collected.unreadable_count, 'line')} cannot be read", file=output)
    if not collected.is_complete:
        print(f"Not everything was read (--limit {limit}): more may wait", file=output)


def _refuse(problem: str) -> NoReturn:
    print(problem, file=sys.stderr)
    raise typer.Exit(EXIT_USAGE)
