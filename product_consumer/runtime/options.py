"""What a worker is told on its command line."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

PRODUCTS, ORDERS = "products", "orders"
MAX_THREADS = 256
MAX_PROCESSES = 64


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options; on wrong ones print what is wrong and exit with 2."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.demo and (options.stream or options.serve or options.processes is not None):
        parser.error("--demo shows both streams; it takes no --stream, --serve or --processes")
    if options.catalog is not None and not options.demo:
        parser.error("--catalog goes with --demo")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="thread_runner.py",
        description="Consume product messages (make each product searchable) and orders from SQS.",
    )
    add = parser.add_argument
    add(
        "--stream",
        action="append",
        choices=(PRODUCTS, ORDERS),
        help="what to consume; may be given twice (default products)",
    )
    add(
        "--processes",
        type=_whole_number(MAX_PROCESSES),
        metavar="N",
        help="processes that share one GPU (default 1)",
    )
    # Given by the process that watches over several.
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
