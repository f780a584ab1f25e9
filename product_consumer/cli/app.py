"""The operator's commands: set up queues, publish, search, read history, check the configuration.

They work beside a running worker, on embedded stores too.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from product_consumer.cli import dead_letters, orders, serve, stages, streams
from product_consumer.cli.configuration import command_settings
from product_consumer.cli.output import EXIT_UNAVAILABLE, end_by, print_json
from product_consumer.queue_addresses import QUEUE_SETTINGS, StreamName
from product_consumer.runtime.exit_codes import EXIT_CONFIGURATION, EXIT_USAGE
from product_consumer.text import printable

if TYPE_CHECKING:
    from product_consumer.products.components import ProductComponents
    from product_consumer.queues.base import Sender
    from product_consumer.search.searcher import Searcher

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Console of the realtime product data consumer.",
)
app.add_typer(dead_letters.app, name="dlq")
orders.register(app)
serve.register(app)
streams.register(app)
stages.register(app)


class StoreName(StrEnum):
    """A store that ``rebuild`` can fill."""

    MILVUS = "milvus"
    VECTORS = "vectors"
    ELASTICSEARCH = "elasticsearch"
    KEYWORDS = "keywords"


def main() -> None:
    """Run a command. An error is one line on standard error; ``output.end_by`` chooses the code."""
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough.
        os._exit(EXIT_UNAVAILABLE)
    except Exception as error:
        end_by(error)


@app.command("setup-queues")
def setup_queues(
    name: Annotated[
        str | None, typer.Option(help="Name of the product queue. [default: products]")
    ] = None,
    orders_name: Annotated[
        str | None, typer.Option(help="Name of the order queue. [default: orders]")
    ] = None,
    stream: Annotated[
        list[StreamName] | None, typer.Option(help="Only these; may be given twice.")
    ] = None,
    max_receive_count: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1000,
            help="Receives before the queue itself moves a message. "
            "[default: 12 on SQS, 50 on RabbitMQ]",
        ),
    ] = None,
) -> None:
    """Create the queues for products and orders, each with its dead-letter queue and the redrive
    policy between them.
    """
    from product_consumer.queues.opening import set_up_queue

    settings = command_settings()
    names = {StreamName.PRODUCTS: name, StreamName.ORDERS: orders_name}
    for chosen in stream or names:
        urls = set_up_queue(settings, chosen, names[chosen], max_receive_count=max_receive_count)
        url_setting, dead_letter_url_setting = QUEUE_SETTINGS[chosen][0]
        print(f"{url_setting}={urls.queue_url}")
        print(f"{dead_letter_url_setting}={urls.dead_letter_queue_url}")


@app.command()
def publish(
    file: Annotated[Path, typer.Argument(help="One JSON message per line.", dir_okay=False)],
) -> None:
    """Send every line of FILE to QUEUE_URL as one message."""
    from product_consumer.queues.opening import open_sender

    settings = command_settings()
    with closing(open_sender(settings, settings.queue_of(StreamName.PRODUCTS))) as sender:
        count = _publish_lines(file, sender)
    print(f"Published {count} messages")


def _publish_lines(file: Path, sender: "Sender") -> int:
    try:
        with file.open(encoding="utf-8") as lines:
            return sender.publish(line.strip() for line in lines if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        print(f"{file}: {error}", file=sys.stderr)
        raise typer.Exit(EXIT_USAGE) from None


@app.command()
def search(
    text: Annotated[str | None, typer.Option(help="Words that describe the product.")] = None,
    image: Annotated[Path | None, typer.Option(help="An image file.", dir_okay=False)] = None,
    keywords: Annotated[str | None, typer.Option(help="Words of its name.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="Most results.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """Find products by words, by image, by both, or by keywords; best first."""
    if text is None and image is None and keywords is None:
        print("Give --text, --image or --keywords", file=sys.stderr)
        raise typer.Exit(EXIT_USAGE)
    from product_consumer.cli.product_views import result_as_json, result_line

    image_bytes = None if image is None else _read(image)
    with _opened(with_model=text is not None or image is not None) as (components, searcher):
        pixels = None if image_bytes is None else components.decoder.decode(image_bytes)
        results = searcher.search(text=text, pixels=pixels, keywords=keywords, limit=limit)
    for result in results:
        if as_json:
            print_json(result_as_json(result))
        else:
            print(result_line(result))
    if not results and not as_json:
        print("Nothing found")


@app.command()
def history(
    product_id: Annotated[str, typer.Argument(metavar="ID", help="The product's id.")],
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most rows of each history.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show a product's price and review history, newest first."""
    from product_consumer.cli.product_views import history_as_json, history_lines
    from product_consumer.ledger.ledger import open_ledger

    ledger = open_ledger(command_settings())
    try:
        ledger.setup()
        row = ledger.rows([product_id]).get(product_id)
        flags = ledger.flags(product_id)
        prices = ledger.price_history(product_id, limit)
        reviews = ledger.review_history(product_id, limit)
    finally:
        ledger.close()
    if row is None:
        print(f"No product {printable(product_id)!r}", file=sys.stderr)
        raise typer.Exit(1)
    if as_json:
        print_json(history_as_json(row, flags, prices, reviews))
    else:
        print("\n".join(history_lines(row, flags, prices, reviews)))


@app.command()
def rebuild(
    store: Annotated[
        StoreName, typer.Argument(help="vectors, keywords: whichever store of this kind is used.")
    ],
    from_start: Annotated[
        bool, typer.Option(help="Write everything, also what a stopped rebuild has written.")
    ] = False,
) -> None:
    """Fill a store from the ledger, beside running workers; run again after a stop, it goes on."""
    from product_consumer.cli.rebuild import rebuild_store

    has_vectors = store in (StoreName.MILVUS, StoreName.VECTORS)
    if not rebuild_store(command_settings(), keywords=not has_vectors, from_start=from_start):
        raise typer.Exit(1)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a product message."""
    from product_consumer.products.parser import product_schema

    print_json(product_schema(), indent=2)


@app.command()
def check(
    skip_model: Annotated[bool, typer.Option(help="Do not load the model.")] = False,
) -> None:
    """Open every configured component as a worker does at its start; name each wrong setting."""
    from product_consumer.cli.check import check_components

    failures = 0
    for name, is_right, detail in check_components(command_settings(), skip_model=skip_model):
        print(f"{'ok  ' if is_right else 'FAIL'}  {name:<14} {printable(detail)}")
        failures += not is_right
    if failures:
        raise typer.Exit(EXIT_CONFIGURATION)


@contextmanager
def _opened(*, with_model: bool) -> Iterator[tuple["ProductComponents", "Searcher"]]:
    """Yield the configured components and a searcher; the model is loaded only if needed."""
    from product_consumer.cli.components import opened_components, with_the_ledgers_model
    from product_consumer.search.searcher import Searcher

    settings = command_settings()
    if with_model:
        settings = with_the_ledgers_model(settings)
    with opened_components(settings) as components:
        if with_model:
            components.load_model()
        components.open_stores()
        embedder = components.embedder if with_model else None
        yield components, Searcher(components.ledger, components.stores, embedder)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        print(f"{path}: {error.strerror}", file=sys.stderr)
        raise typer.Exit(EXIT_USAGE) from None
