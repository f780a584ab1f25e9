"""Exit codes of a worker, and the errors that lead to them.

0   done or drained
1   second signal
2   wrong usage or nothing configured
70  fatal error: start it again (``EX_SOFTWARE`` of sysexits.h)
78  configuration that cannot work: do not start it again (``EX_CONFIG``)
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
    """Raised when the program was started with nothing to do; the message says what to set."""


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
    except Exception:
        # A bug of ours. Its traceback is told here: ``leave`` ends the process within a bound.
        log.exception("Fatal: an unexpected error")
        ending.code = EXIT_FATAL
