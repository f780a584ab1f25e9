"""Options: the command line of a worker."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from product_consumer.environment import provide_temporary_directory, read_systemd_environment
from product_consumer.logs import configure_logging
from product_consumer.queue_addresses import StreamName
from product_consumer.runtime.child_process import end_with_parent
from product_consumer.runtime.exit_codes import UsageError
from product_consumer.runtime.supervisor import dump_stacks_on_request
from product_consumer.runtime.systemd import Notifier
from product_consumer.settings import MAX_PROCESSES, MAX_THREADS, Settings, read_settings


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a command line; None leaves the choice to the settings."""

    arguments: tuple[str, ...]
    """As given, for the processes that this one starts."""
    streams: tuple[StreamName, ...] = (StreamName.PRODUCTS,)
    threads: int | None = None
    processes: int | None = None
    process_number: int | None = None
    """Number of a child process, from 1; None for a process without a parent of ours."""
    until_empty: bool = False
    serve: bool = False
    demo: bool = False
    catalog: Path | None = None

    @property
    def serves(self) -> bool:
        """Whether this process answers over HTTP: of several, only one can have the port."""
        return self.serve and self.process_number in (None, 1)

    def prepare(self) -> Settings:
        """Read the settings, set up the log, and follow the parent process, if there is one.

        An option wins over its setting. Raises ``ConfigurationError``, and ``UsageError`` without
        a queue to read.
        """
        given = {"threads": self.threads, "processes": self.processes}
        chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        settings = read_settings(**chosen)
        provide_temporary_directory(settings.data_dir / "tmp")
        configure_logging(settings.log_format, settings.log_level, self.process_number)
        if self.process_number is not None:
            _follow_parent()
        if not self.demo:
            self._check_queues(settings)
        return settings

    def for_demo(self) -> Self:
        """Return the options of the demo's worker: both streams, until they are empty."""
        return replace(self, streams=tuple(StreamName), until_empty=True)

    def _check_queues(self, settings: Settings) -> None:
        for stream in self.streams:
            address = settings.queue_of(stream)
            if address.url is None:
                raise UsageError(
                    f"Nothing to consume: set {address.url_setting_names} (see .env.example), "
                    "or run `python thread_runner.py --demo` to see the worker at work."
                )


def read_options(arguments: Sequence[str] | None) -> Options:
    """Return the options; print the error and exit with 2 where they are wrong."""
    given = tuple(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    options = parser.parse_args(given)
    if options.demo and (options.stream or options.serve or options.processes is not None):
        parser.error("--demo shows both streams; it takes no --stream, --serve or --processes")
    if options.catalog is not None and not options.demo:
        parser.error("--catalog goes with --demo")
    return Options(
        given,
        streams=tuple(map(StreamName, dict.fromkeys(options.stream or [StreamName.PRODUCTS]))),
        threads=options.threads,
        processes=options.processes,
        process_number=options.process_number,
        until_empty=options.until_empty,
        serve=options.serve,
        demo=options.demo,
        catalog=options.catalog,
    )


def _follow_parent() -> None:
    dump_stacks_on_request()
    end_with_parent()
    # After this message the parent may ask for the stacks.
    Notifier(read_systemd_environment()).status("Starting")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="thread_runner.py",
        description="Consume product messages (make each product searchable) and orders, "
        "from SQS or RabbitMQ.",
    )
    add = parser.add_argument
    add(
        "--stream",
        action="append",
        choices=[stream.value for stream in StreamName],
        help="what to consume; may be given twice (default products)",
    )
    add(
        "--processes",
        type=_whole_number(MAX_PROCESSES),
        metavar="N",
        help="processes that share one GPU (default 1)",
    )
    # Given by the process that supervises several.
    add("--process-number", type=int, help=argparse.SUPPRESS)
    add(
        "--threads",
        type=_whole_number(MAX_THREADS),
        metavar="N",
        help="consumer threads per stream, in each process (default 10)",
    )
    add(
        "--until-empty",
        action="store_true",
        help="end when the queue has twice in a row reported no message, waiting or in flight",
    )
    add("--serve", action="store_true", help="also answer questions about orders over HTTP")
    _add_demo(parser)
    return parser


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--demo",
        action="store_true",
        help="show the whole job on a sample catalogue with local servers, then exit",
    )
    parser.add_argument(
        "--catalog", type=Path, metavar="DIR", help="with --demo: products.json and images/ to use"
    )


def _whole_number(most: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"takes a whole number from 1 to {most}")
        return int(text)

    return convert
