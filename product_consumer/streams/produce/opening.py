"""Producers as processes: from their settings to an exit code."""

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event

from tqdm import tqdm

from product_consumer.environment import read_systemd_environment
from product_consumer.errors import Unavailable
from product_consumer.queues.base import Outgoing
from product_consumer.queues.rabbitmq.opening import open_stream_sender
from product_consumer.queues.rabbitmq.sender import RabbitSender
from product_consumer.queues.rabbitmq.topology import stream_queue
from product_consumer.queues.rabbitmq.url import AmqpUrl
from product_consumer.runtime.early_exit import tell
from product_consumer.runtime.exit_codes import EXIT_OK, Ending, exit_code_of_errors
from product_consumer.runtime.signals import Shutdown
from product_consumer.runtime.systemd import Notifier
from product_consumer.settings import Settings
from product_consumer.streams.produce.files import Directory, Kind, picture, whole_text, words
from product_consumer.streams.produce.sending import StreamSender
from product_consumer.streams.produce.tabular import read_table, records
from product_consumer.streams.progress import Progress
from product_consumer.streams.tracing import NO_TRACING, Tracing, open_tracing
from product_consumer.text import printable

DIRECTORY_OPTION, FILE_OPTION = "--directory", "--file"
EXIT_NOT_ALL_SENT = 1
"""Also after an outage that no attempt outlasted."""

log = logging.getLogger(__name__)

Open = Callable[[], RabbitSender]


def produce_tabular(
    url: AmqpUrl, settings: Settings, file: Path, *, number: int, interval_seconds: float
) -> int:
    """Make the queue anew, then send rows of a CSV file, one after each interval.

    ``number``: of records; 0 goes on until stopped. With an interval each record is printed, too.
    """
    with _ending() as ending:
        rows = read_table(file, FILE_OPTION)
        messages = _traced(records(rows, number), url)
        progress = Progress("Sent", "records", number or None)
        with _sending(_Anew(url, settings), settings, progress) as (sender, stopping):
            log.info("Sending rows of %s to %s", file, url.queue)
            if interval_seconds:
                _send_slowly(sender, messages, interval_seconds, stopping)
            else:
                sender.send(messages)
        ending.code = _exit_code(sender)
    return ending.code


def delete_stream(url: AmqpUrl, settings: Settings) -> int:
    """Delete the queue of a stream, with what is in it; nothing happens where there is none."""

    def delete() -> RabbitSender:
        sender = open_stream_sender(url, settings)
        with _closed_on_error(sender):
            sender.delete(url.queue)
        return sender

    with _ending() as ending, _connected(delete, settings):
        log.info("Deleted the queue %s", url.queue)
    return ending.code


def produce_images(url: AmqpUrl, settings: Settings, directory: Path, *, loop: bool) -> int:
    """Send every file of a directory as a picture; ``loop``: again and again until stopped."""
    return _produce_files(url, settings, directory, picture, "pictures", loop=loop)


def produce_texts(
    url: AmqpUrl, settings: Settings, directory: Path, *, loop: bool, per_file: bool
) -> int:
    """Send every word of the files of a directory; ``per_file``: each file as a whole."""
    kind, unit = (whole_text, "texts") if per_file else (words, "words")
    return _produce_files(url, settings, directory, kind, unit, loop=loop)


def _produce_files(
    url: AmqpUrl, settings: Settings, path: Path, kind: Kind, unit: str, *, loop: bool
) -> int:
    with _ending() as ending:
        directory = Directory(path, DIRECTORY_OPTION)
        is_known = kind is not words and not loop
        progress = Progress("Sent", unit, directory.file_count if is_known else None)

        def connect() -> RabbitSender:
            return open_stream_sender(url, settings)

        with _sending(connect, settings, progress) as (sender, stopping):
            log.info("Sending the files of %s to %s", path, url.queue)
            sender.send(_traced(directory.messages(kind, stopping, loop=loop), url))
        ending.code = EXIT_NOT_ALL_SENT if directory.left_out else _exit_code(sender)
    return ending.code


def _send_slowly(
    sender: StreamSender, messages: Iterable[Outgoing], interval_seconds: float, stopping: Event
) -> None:
    for message in messages:
        sender.send([message])
        tqdm.write(printable(str(message.body)))
        sys.stdout.flush()
        if stopping.wait(interval_seconds):
            return


def _traced(messages: Iterable[Outgoing], url: AmqpUrl) -> Iterable[Outgoing]:
    """Return the messages with the headers of new traces, where traces are recorded."""
    tracing = open_tracing(url.queue)
    if tracing is NO_TRACING:
        return messages
    return (_with_trace(message, url.queue, tracing) for message in messages)


def _with_trace(message: Outgoing, queue: str, tracing: Tracing) -> Outgoing:
    trace = tracing.starting(queue, message.envelope.message_id)
    return replace(message, attributes={**message.attributes, **trace})


class _Anew:
    """Opens a sender; the first time, the queue is deleted and made again."""

    def __init__(self, url: AmqpUrl, settings: Settings) -> None:
        self._url = url
        self._settings = settings
        self._is_done = False

    def __call__(self) -> RabbitSender:
        sender = open_stream_sender(self._url, self._settings)
        if not self._is_done:
            with _closed_on_error(sender):
                sender.delete(self._url.queue)
                sender.make([stream_queue(self._url.queue)])
            self._is_done = True
        return sender


@contextmanager
def _sending(
    open_sender: Open, settings: Settings, progress: Progress
) -> Iterator[tuple[StreamSender, Event]]:
    """Yield a connected sender and the event of a stop; tell the progress meanwhile."""

    def count(sent: int, refused: int) -> None:
        progress.add(sent, refused=refused)

    with _connected(open_sender, settings, count) as (sender, stopping), progress:
        yield sender, stopping


@contextmanager
def _connected(
    open_sender: Open,
    settings: Settings,
    on_sent: Callable[[int, int], None] = lambda _sent, _refused: None,
) -> Iterator[tuple[StreamSender, Event]]:
    notifier = Notifier(read_systemd_environment())
    with (
        Shutdown(settings.drain_seconds, notifier) as shutdown,
        closing(StreamSender(open_sender, shutdown.stopping, on_sent)) as sender,
    ):
        sender.connect()
        shutdown.consuming = True
        notifier.ready()
        yield sender, shutdown.stopping


def _exit_code(sender: StreamSender) -> int:
    for code, number in sender.sent.refused.items():
        log.error("The server refused %d messages: %s", number, code)
    return EXIT_NOT_ALL_SENT if sender.sent.refused else EXIT_OK


@contextmanager
def _ending() -> Iterator[Ending]:
    """Turn the errors that may end a producer into a message and an exit code."""
    with exit_code_of_errors() as ending:
        try:
            yield ending
        except Unavailable as error:
            tell(printable(str(error)))
            ending.code = EXIT_NOT_ALL_SENT
        except BrokenPipeError:
            # The reader of the records has seen enough.
            ending.code = EXIT_NOT_ALL_SENT


@contextmanager
def _closed_on_error(sender: RabbitSender) -> Iterator[None]:
    try:
        yield
    except BaseException:
        sender.close()
        raise
