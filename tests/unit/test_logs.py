"""What reaches the log: our lines, and of libraries their warnings only."""

import logging
from collections.abc import Iterator

import pytest

from product_consumer.database.pool import BudgetPool
from product_consumer.logs import configure_logging


@pytest.fixture(autouse=True)
def restored_root() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize(
    ("name", "level", "is_logged"),
    [
        ("product_consumer.pipeline.outages", logging.INFO, True),
        ("data_management", logging.INFO, True),
        ("__main__", logging.INFO, True),
        ("product_consumer.pipeline.outages", logging.DEBUG, False),
        ("a.library", logging.INFO, False),
        ("a.library", logging.WARNING, True),
        ("sqlalchemy.pool.impl.QueuePool", logging.ERROR, False),
        (f"{BudgetPool.__module__}.{BudgetPool.__name__}", logging.INFO, False),
    ],
)
def test_our_lines_are_logged_and_of_libraries_their_warnings(
    name: str, level: int, is_logged: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("text", "INFO")
    logging.getLogger(name).log(level, "a line")

    assert ("a line" in capsys.readouterr().err) is is_logged
