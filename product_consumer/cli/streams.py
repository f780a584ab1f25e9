"""Commands of data streams: ``produce`` and ``collect`` records, pictures and texts.

The scripts in ``producer/`` and ``consumer/`` are the same commands, each under a name of its own.
"""

import logging
import math
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from product_consumer.cli.output import end_by
from product_consumer.environment import provide_temporary_directory
from product_consumer.logs import configure_logging
from product_consumer.runtime.exit_codes import EXIT_FATAL
from product_consumer.runtime.signals import leave
from product_consumer.settings import MAX_THREADS, Settings, read_settings

if TYPE_CHECKING:
    # Loaded by the command that needs it: the other commands start without pika.
    from product_consumer.queues.rabbitmq.url import AmqpUrl

SERVER_OPTION = "--rabbitmq_server"
MATERIAL = Path(__file__).resolve().parent.parent.parent / "producer"
"""What the producers send where nothing else is named."""

_DEFAULT_SERVER = "localhost"
_MAX_INTERVAL_SECONDS = 86_400.0
_LOOP_LOGGER = "product_consumer.pipeline.consumer"

produce = typer.Typer(no_args_is_help=True, help="Send records, pictures or texts.")
collect = typer.Typer(no_args_is_help=True, help="Save records, pictures or texts.")


class Mode(StrEnum):
    """What a producer of records does with its queue."""

    SETUP = "setup"
    TEARDOWN = "teardown"


Server = Annotated[
    str | None,
    typer.Option(
        "-b",
        SERVER_OPTION,
        help="host, host:port or an amqp:// or amqps:// URL. Default: RABBITMQ_SERVER, else"
        " localhost.",
    ),
]
Queue = Annotated[str, typer.Option("-q", "--queue_name", help="Name of the queue.")]
User = Annotated[str, typer.Option("-u", "--user", help="User, where no URL names one.")]
Password = Annotated[
    str, typer.Option("-p", "--password", help="Password; every process list shows it.")
]
Threads = Annotated[int, typer.Option(min=1, max=MAX_THREADS, help="Threads that save.")]
UntilEmpty = Annotated[bool, typer.Option("--until-empty", help="End once the queue is empty.")]
Loop = Annotated[bool, typer.Option("--loop", help="Begin again after the last file.")]
Output = Annotated[Path, typer.Option("-o", "--output_directory", help="Made where it is missing.")]


@produce.command("tabular")
def produce_tabular(
    mode: Annotated[
        Mode, typer.Option("-m", "--mode", help="Both delete the queue; setup sends then.")
    ] = Mode.SETUP,
    server: Server = None,
    queue: Queue = "alicpp_records",
    interval: Annotated[
        float, typer.Option("-i", "--interval", min=0, help="Seconds between two records.")
    ] = 2.0,
    number: Annotated[
        int, typer.Option("-n", "--num_records", min=0, help="How many; 0 goes on until stopped.")
    ] = 0,
    user: User = "guest",
    password: Password = "guest",  # noqa: S107 - the login of every new RabbitMQ
    file: Annotated[Path, typer.Option(help="CSV file with a row of names.")] = (
        MATERIAL / "tabular_data.csv"
    ),
) -> None:
    """Send rows of a CSV file, drawn at random, as records of JSON."""
    from product_consumer.streams.produce import opening

    if not (math.isfinite(interval) and interval <= _MAX_INTERVAL_SECONDS):
        raise typer.BadParameter(f"needs 0 to {_MAX_INTERVAL_SECONDS:.0f}", param_hint="--interval")
    settings, url = prepare(server, queue, user, password)
    if mode is Mode.TEARDOWN:
        leave(opening.delete_stream(url, settings))
    leave(opening.produce_tabular(url, settings, file, number=number, interval_seconds=interval))


@produce.command("images")
def produce_images(
    directory: Annotated[
        Path | None, typer.Option("-d", "--directory", help="Default: images.")
    ] = None,
    server: Server = None,
    queue: Queue = "image_queue",
    user: User = "guest",
    password: Password = "guest",  # noqa: S107
    loop: Loop = False,
) -> None:
    """Send every file of a directory as a picture."""
    from product_consumer.streams.produce import opening

    settings, url = prepare(server, queue, user, password)
    leave(opening.produce_images(url, settings, _material(directory, "images"), loop=loop))


@produce.command("texts")
def produce_texts(
    directory: Annotated[
        Path | None, typer.Option("-d", "--directory", help="Default: texts.")
    ] = None,
    server: Server = None,
    queue: Queue = "text_queue",
    user: User = "guest",
    password: Password = "guest",  # noqa: S107
    loop: Loop = False,
    per_file: Annotated[
        bool, typer.Option("--per-file", help="One message for each file, not for each word.")
    ] = False,
) -> None:
    """Send every word of the files of a directory, one message for each."""
    from product_consumer.streams.produce import opening

    settings, url = prepare(server, queue, user, password)
    path = _material(directory, "texts")
    leave(opening.produce_texts(url, settings, path, loop=loop, per_file=per_file))


@collect.command("tabular")
def collect_tabular(
    server: Server = None,
    queue: Queue = "alicpp_records",
    user: User = "guest",
    password: Password = "guest",  # noqa: S107
    output: Annotated[
        Path | None, typer.Option("--output", help="File to append to (default: print).")
    ] = None,
    threads: Threads = 1,
    until_empty: UntilEmpty = False,
) -> None:
    """Write each record as one line of JSON."""
    from product_consumer.streams.collect import opening

    settings, url = prepare(server, queue, user, password)
    _leave_out_each_message(settings)
    leave(opening.collect_tabular(url, settings, output, threads=threads, until_empty=until_empty))


@collect.command("images")
def collect_images(
    server: Server = None,
    queue: Queue = "image_queue",
    output_directory: Output = Path("received_images"),
    user: User = "guest",
    password: Password = "guest",  # noqa: S107
    threads: Threads = 2,
    until_empty: UntilEmpty = False,
) -> None:
    """Save each picture as a file."""
    from product_consumer.streams.collect import opening

    settings, url = prepare(server, queue, user, password)
    _leave_out_each_message(settings)
    leave(
        opening.collect_images(
            url, settings, output_directory, threads=threads, until_empty=until_empty
        )
    )


@collect.command("texts")
def collect_texts(
    server: Server = None,
    queue: Queue = "text_queue",
    output_directory: Output = Path("received_texts"),
    user: User = "guest",
    password: Password = "guest",  # noqa: S107
    threads: Threads = 1,
    until_empty: UntilEmpty = False,
) -> None:
    """Save each word, or each whole text, as a file; one thread keeps their order."""
    from product_consumer.streams.collect import opening

    settings, url = prepare(server, queue, user, password)
    _leave_out_each_message(settings)
    leave(
        opening.collect_texts(
            url, settings, output_directory, threads=threads, until_empty=until_empty
        )
    )


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.add_typer(produce, name="produce")
    app.add_typer(collect, name="collect")


def run_script(command: Callable[..., None]) -> NoReturn:
    """Run one command as a program of its own."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    try:
        app()
    except Exception as error:
        end_by(error)
    sys.exit(EXIT_FATAL)


def prepare(server: str | None, queue: str, user: str, password: str) -> tuple[Settings, "AmqpUrl"]:
    """Read the settings, set up the log, and return the settings and the URL of a queue."""
    settings = read_settings()
    provide_temporary_directory(settings.data_dir / "tmp")
    configure_logging(settings.log_format, settings.log_level)
    return settings, queue_url(settings, server, queue, user, password)


def queue_url(
    settings: Settings, server: str | None, queue: str, user: str, password: str
) -> "AmqpUrl":
    """Return the URL of a queue on the chosen server, else on the one of the settings.

    Raises ``ConfigurationError``, which names the option or the setting.
    """
    from product_consumer.queues.rabbitmq.url import read_server

    text, setting = server or _DEFAULT_SERVER, SERVER_OPTION
    if server is None and settings.rabbitmq_server is not None:
        text, setting = settings.rabbitmq_server.get_secret_value(), "RABBITMQ_SERVER"
    return read_server(text, setting, queue, user=user, password=password)


def _leave_out_each_message(settings: Settings) -> None:
    """Log what was rejected, and a count a second, but no line for each message."""
    if settings.log_level != "DEBUG":
        logging.getLogger(_LOOP_LOGGER).setLevel(logging.WARNING)


def _material(directory: Path | None, name: str) -> Path:
    """Return the chosen directory, else ``name`` here, else what comes with the program."""
    if directory is not None:
        return directory
    return Path(name) if Path(name).is_dir() else MATERIAL / name
