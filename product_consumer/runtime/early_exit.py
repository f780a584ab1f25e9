"""What a program does before it imports what takes time: a clean end, whatever happens meanwhile.

Imports nothing but the standard library's small modules.
"""

import os
import signal
import sys
from contextlib import suppress
from types import TracebackType

_EXIT_FATAL = 70
_EXIT_CONFIGURATION = 78


def guard_errors() -> None:
    """Have every error end the program by an exit code of ours, on whatever streams there are."""
    open_missing_streams()
    sys.excepthook = _end_by_error


def guard_start() -> None:
    """Do the same, and end with 0 by a signal that asks for a stop."""
    guard_errors()
    for number in stop_signals():
        # Until ``Shutdown`` takes over.
        signal.signal(number, lambda *_: sys.exit(0))


def open_missing_streams() -> None:
    """Open what a closed standard stream leaves: a socket with its number would get our log lines.

    Output never fails for a character that its encoding lacks: that is escaped.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - for the life of the process
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(number, "w", closefd=False, errors="backslashreplace"))  # noqa: SIM115
        else:
            stream.reconfigure(errors="backslashreplace")


def stop_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that ask for a stop; not SIGHUP where ``nohup`` has it ignored."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return signal.SIGTERM, signal.SIGINT
    return signal.SIGTERM, signal.SIGINT, signal.SIGHUP


def tell(line: str) -> None:
    """Print a line on standard error, which may be full, or a pipe that nobody reads."""
    with suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)


def _end_by_error(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """End with 78 where a module is missing, else with 70 and the traceback: a bug of ours."""
    if isinstance(error, ImportError):
        tell(f"Cannot start: the installation: {error}")
        os._exit(_EXIT_CONFIGURATION)
    tell("Fatal: an unexpected error")
    with suppress(OSError, ValueError):
        sys.__excepthook__(kind, error, traceback)
    os._exit(_EXIT_FATAL)
