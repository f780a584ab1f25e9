"""Exit codes: 0 done or drained, 1 second signal, 2 wrong usage or nothing configured, 70 fatal
error (start me again), 78 configuration that cannot work (do not start me again).

70 and 78 are ``EX_SOFTWARE`` and ``EX_CONFIG`` of sysexits.h.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from product_consumer.errors import ConfigurationError, FatalError
from product_consumer.pipeline.backoff import Stopped

EXIT_OK = 0
EXIT_SECOND_SIGNAL = 1
EXIT_USAGE = 2
EXIT_FATAL = 70
EXIT_CONFIGURATION = 78

log = logging.getLogger(__name__)


class UsageError(Exception):
    """Raised when the program was started with nothing to do; the message says how to do better."""


@dataclass(slots=True)
class Ending:
    """How the process ends; ``code`` is set by the block of ``exit_code_of_errors``."""

    code: int = EXIT_OK


@contextmanager
def exit_code_of_errors() -> Iterator[Ending]:
    """Turn the errors that may end a process into a message and an exit code."""
    ending = Ending()
    try:
        yield ending
    except Stopped:
        ending.code = EXIT_OK
    except UsageError as error:
        print(error, file=sys.stderr)
        ending.code = EXIT_USAGE
    except ConfigurationError as error:
        print(f"Cannot start: {error}", file=sys.stderr)
        ending.code = EXIT_CONFIGURATION
    except FatalError as error:
        log.error("Fatal: %s", error)
        ending.code = EXIT_FATAL
