"""How a benchmark starts, reports progress and ends. Needs nothing but Python."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path


def run(main: Callable[[], None]) -> None:
    """Run a benchmark to its end; Ctrl-C ends it with one line, after everything is closed."""
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped")


def command() -> str:
    """Return the command line of this program, as a person types it."""
    program = f"benchmarks.{Path(sys.argv[0]).stem}"
    return f"`{shlex.join(['python', '-m', program, *sys.argv[1:]])}`"


def print_progress(text: str) -> None:
    """Report progress on standard error, apart from the results."""
    print(text, file=sys.stderr, flush=True)
