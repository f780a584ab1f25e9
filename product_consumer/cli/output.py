"""What a command prints: JSON that every terminal can show, and errors as one line."""

import json
import logging
import os
import sys
import traceback
from typing import Any, NoReturn

from product_consumer.errors import ConfigurationError, FatalError, ProductConsumerError
from product_consumer.runtime.early_exit import tell
from product_consumer.runtime.exit_codes import (
    EXIT_CONFIGURATION,
    EXIT_FATAL,
    path_problem,
    shortage_in_words,
)
from product_consumer.text import printable

EXIT_UNAVAILABLE = 1

log = logging.getLogger(__name__)


def print_json(value: Any, indent: int | None = None) -> None:
    """Print a value as JSON; letters that the terminal may lack are escaped as JSON does."""
    is_unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    print(json.dumps(value, indent=indent, ensure_ascii=not is_unicode))


def end_by(error: Exception) -> NoReturn:
    """Tell an error in one line and exit: 78 for a setting, 1 for an outage, else 70.

    Only a bug of ours has a traceback.
    """
    if isinstance(error, OSError):
        # Standard output may be full: what is left in its buffer would fail again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if isinstance(error, ImportError):
        tell(f"Cannot start: the installation: {printable(str(error))}")
        sys.exit(EXIT_CONFIGURATION)
    if isinstance(error, ProductConsumerError):
        tell(printable(str(error)))
        sys.exit(_exit_code_of(error))
    wrong_path = path_problem(error)
    if wrong_path:
        tell(wrong_path)
        sys.exit(EXIT_CONFIGURATION)
    shortage = shortage_in_words(error)
    tell(f"Fatal: {shortage or 'an unexpected error'}")
    if not shortage:
        tell("".join(traceback.format_exception(error)).rstrip())
    sys.exit(EXIT_FATAL)


def _exit_code_of(error: ProductConsumerError) -> int:
    if isinstance(error, ConfigurationError):
        return EXIT_CONFIGURATION
    return EXIT_FATAL if isinstance(error, FatalError) else EXIT_UNAVAILABLE
