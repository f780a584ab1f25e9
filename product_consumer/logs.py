"""Log lines for operators: text or JSON, one line each, even for hostile messages."""

import json
import logging
import sys
from datetime import UTC, datetime

from product_consumer.text import printable

# These print tracebacks or warnings in healthy runs and in outages; their failures reach us as
# exceptions.
_NOISY_LOGGERS = (
    *("grpc", "elastic_transport", "huggingface_hub", "sqlalchemy.pool"),
    *("botocore.credentials", "urllib3.connection"),
    # SQLAlchemy logs under the name of a pool's class.
    "product_consumer.database.pool.BudgetPool",
)
_OURS = {"product_consumer", "data_management", "thread_runner", "__main__"}


def configure_logging(log_format: str, level: str, process: int | None = None) -> None:
    """Send every log line to standard error. ``log_format``: ``text`` or ``json``.

    ``process``: this process's number where several run as one service; each line then names it.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _JsonFormatter(process) if log_format == "json" else _TextFormatter(process)
    )
    handler.addFilter(_is_wanted)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    for name in _NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _is_wanted(record: logging.LogRecord) -> bool:
    """Leave out what libraries tell below a warning, such as each connection that they close."""
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] in _OURS


class _TextFormatter(logging.Formatter):
    """One line of text per record, in local time.

    ``2026-11-21 14:30:05,123 INFO Thread 2 processed ID: abc123``; one of several processes puts
    ``Process 3: `` before the message.
    """

    def __init__(self, process: int | None) -> None:
        label = "" if process is None else f"Process {process}: "
        super().__init__(f"%(asctime)s %(levelname)s {label}%(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        # Only the message is escaped. ``format`` appends the traceback afterwards, lines intact.
        record.message = printable(record.message)
        return super().formatMessage(record)


class _JsonFormatter(logging.Formatter):
    """One JSON object per line: ``time`` (UTC), ``level``, ``logger``, ``thread``, ``message``,
    ``exception``; ``process`` in one of several.
    """

    def __init__(self, process: int | None) -> None:
        super().__init__()
        self._process = {} if process is None else {"process": process}

    def format(self, record: logging.LogRecord) -> str:
        entry = self._process | {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "thread": record.threadName,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=True)
