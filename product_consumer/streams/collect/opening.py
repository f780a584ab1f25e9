"""Collectors as worker processes: from their settings to an exit code."""

import sys
from contextlib import closing
from functools import partial
from pathlib import Path

from product_consumer.queues.base import MessageQueue
from product_consumer.queues.in_flight import InFlightTracker
from product_consumer.queues.rabbitmq.url import AmqpUrl
from product_consumer.runtime.exit_codes import exit_code_of_errors
from product_consumer.runtime.stream import Stream
from product_consumer.runtime.worker import Worker
from product_consumer.settings import Settings
from product_consumer.streams.collect.directory import OutputDirectory
from product_consumer.streams.collect.files import FilePipeline
from product_consumer.streams.collect.lines import FileOfLines, Lines, StandardOutput
from product_consumer.streams.collect.naming import Naming, PictureNaming, TextNaming
from product_consumer.streams.collect.tabular import TabularPipeline
from product_consumer.streams.progress import Progress
from product_consumer.streams.tracing import open_tracing
from product_consumer.streams.worker import run_stream

DIRECTORY_OPTION, FILE_OPTION = "--output_directory", "--output"

BATCH_SIZE = 32
"""Messages that a thread saves together: the directory is flushed once for all of them."""

_collect = partial(run_stream, batch_size=BATCH_SIZE)


def collect_tabular(
    url: AmqpUrl, settings: Settings, output: Path | None, *, threads: int, until_empty: bool
) -> int:
    """Write each record as a line, to a file or, without one, to standard output."""
    with exit_code_of_errors() as ending:
        lines: Lines = StandardOutput() if output is None else FileOfLines(output, FILE_OPTION)
        # Records on a terminal are their own progress.
        has_bar = output is not None or not sys.stdout.isatty()
        progress = Progress("Wrote", "records", has_bar=has_bar)
        opening = partial(_open_tabular, url, settings, lines, progress)
        ending.code = _collect(url, settings, opening, threads=threads, until_empty=until_empty)
    return ending.code


def collect_images(
    url: AmqpUrl, settings: Settings, directory: Path, *, threads: int, until_empty: bool
) -> int:
    """Save each picture as a file."""
    with exit_code_of_errors() as ending, closing(_opened(directory)) as output:
        opening = partial(_open_files, url, settings, PictureNaming(), output, "pictures")
        ending.code = _collect(url, settings, opening, threads=threads, until_empty=until_empty)
    return ending.code


def collect_texts(
    url: AmqpUrl, settings: Settings, directory: Path, *, threads: int, until_empty: bool
) -> int:
    """Save each word, or each whole text, as a file."""
    with exit_code_of_errors() as ending, closing(_opened(directory)) as output:
        opening = partial(_open_files, url, settings, TextNaming(output.names()), output, "texts")
        ending.code = _collect(url, settings, opening, threads=threads, until_empty=until_empty)
    return ending.code


def _opened(directory: Path) -> OutputDirectory:
    return OutputDirectory(directory, DIRECTORY_OPTION)


def _open_tabular(
    url: AmqpUrl,
    settings: Settings,
    lines: Lines,
    progress: Progress,
    worker: Worker,
    queue: MessageQueue,
    in_flight: InFlightTracker,
) -> Stream:
    tracing = open_tracing(url.queue)
    pipeline = TabularPipeline(
        lines,
        in_flight,
        worker.context,
        max_attempts=settings.max_attempts,
        tracing=tracing,
        on_written=progress.add,
    )
    return Stream(tracing.watch(queue), in_flight, pipeline, background=progress)


def _open_files(
    url: AmqpUrl,
    settings: Settings,
    naming: Naming,
    directory: OutputDirectory,
    unit: str,
    worker: Worker,
    queue: MessageQueue,
    in_flight: InFlightTracker,
) -> Stream:
    progress = Progress("Saved", unit)
    tracing = open_tracing(url.queue)
    pipeline = FilePipeline(
        naming,
        directory,
        in_flight,
        worker.context,
        max_attempts=settings.max_attempts,
        tracing=tracing,
        on_saved=lambda new, there: progress.add(new, already_there=there),
    )
    return Stream(tracing.watch(queue), in_flight, pipeline, background=progress)
