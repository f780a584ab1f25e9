"""Exit codes of a worker, and the errors that lead to them.

0   done or drained
1   second signal; of a command, an outage or an unknown id
2   wrong usage or nothing configured
70  fatal error: start it again (``EX_SOFTWARE`` of sysexits.h)
78  configuration that cannot work: do not start it again (``EX_CONFIG``)
"""

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from product_consumer.environment import variable_of_path
from product_consumer.errors import ConfigurationError, FatalError
from product_consumer.pipeline.backoff import Stopped
from product_consumer.runtime.early_exit import tell
from product_consumer.text import printable

EXIT_OK = 0
EXIT_SECOND_SIGNAL = 1
EXIT_USAGE = 2
EXIT_FATAL = 70
EXIT_CONFIGURATION = 78

log = logging.getLogger(__name__)

_UNUSABLE = (errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.EROFS, errno.EPERM)
_SHORTAGES = {
    errno.EMFILE: "no more open files: see ulimit -n, and LimitNOFILE of the service",
    errno.ENFILE: "no more open files on this machine",
    errno.ENOSPC: "no space left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.ENOMEM: "no more memory",
    errno.EAGAIN: "no more processes: see ulimit -u, and TasksMax of the service",
    errno.EROFS: "the file system is read-only",
}


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
        tell(str(error))
        ending.code = EXIT_USAGE
    except ConfigurationError as error:
        tell(f"Cannot start: {printable(str(error))}")
        ending.code = EXIT_CONFIGURATION
    except ImportError as error:
        tell(f"Cannot start: the installation: {printable(str(error))}")
        ending.code = EXIT_CONFIGURATION
    except FatalError as error:
        log.error("Fatal: %s", error)
        ending.code = EXIT_FATAL
    except Exception as error:
        wrong_path = path_problem(error)
        if wrong_path:
            tell(f"Cannot start: {wrong_path}")
            ending.code = EXIT_CONFIGURATION
            return
        ending.code = EXIT_FATAL
        shortage = shortage_in_words(error)
        if shortage:
            log.error("Fatal: %s", shortage)
            return
        # A bug of ours. Its traceback is told here: ``leave`` ends the process within a bound.
        log.exception("Fatal: an unexpected error")


def path_problem(error: BaseException) -> str:
    """Return the variable whose path a library cannot use, and why; nothing for other errors."""
    if not isinstance(error, OSError) or error.errno not in _UNUSABLE:
        return ""
    path = error.filename if isinstance(error.filename, str) else ""
    variable = variable_of_path(path) if path else None
    return printable(f"{variable}: {path}: {error.strerror}") if variable else ""


def shortage_in_words(error: BaseException) -> str:
    """Return what the machine has too little of, where that is the error; else nothing.

    It may pass: other programs end.
    """
    if isinstance(error, MemoryError):
        return "no more memory"
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return "no more threads: see ulimit -u, and TasksMax of the service"
    if isinstance(error, OSError) and error.errno in _SHORTAGES:
        place = f": {error.filename}" if error.filename else ""
        return f"{_SHORTAGES[error.errno]}{place}"
    return ""
