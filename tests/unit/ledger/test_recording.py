"""The statements that record a batch, as the driver sees them."""

from datetime import timedelta

import pytest

from product_consumer.database.connection import Database
from product_consumer.ledger.recording import Recording

LONGEST_KEPT = 4096


@pytest.mark.parametrize("name", ["_upsert", "_fill_in"])
def test_a_statement_is_short_enough_for_the_driver_to_keep_it_parsed(name: str) -> None:
    database = Database("postgresql://user@localhost/any", timeout_seconds=1, connections=1)
    recording = Recording(database, timedelta(seconds=1))

    (statement,) = getattr(recording, name)._statements

    assert len(str(statement.compile(database._engine))) <= LONGEST_KEPT
