"""Column types mean the same on both databases."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import Dialect
from sqlalchemy.dialects import postgresql, sqlite

from product_consumer.database.column_types import Bytewise, UtcTimestamp

AT = datetime(2026, 11, 21, 14, 30, 5, 7, timezone(timedelta(hours=7)))


@pytest.mark.parametrize("dialect", [sqlite.dialect(), postgresql.dialect()], ids=lambda d: d.name)
def test_a_time_comes_back_as_it_was_in_utc(dialect: Dialect):
    stored = UtcTimestamp().process_bind_param(AT, dialect)
    read = UtcTimestamp().process_result_value(stored, dialect)

    assert read == AT
    assert read is not None
    assert read.tzinfo is UTC


@pytest.mark.parametrize("dialect", [sqlite.dialect(), postgresql.dialect()], ids=lambda d: d.name)
def test_no_time_stays_none(dialect: Dialect):
    assert UtcTimestamp().process_bind_param(None, dialect) is None
    assert UtcTimestamp().process_result_value(None, dialect) is None


def test_times_sort_as_text_where_they_are_text():
    times = [AT, AT.replace(microsecond=0), AT - timedelta(days=1), AT + timedelta(hours=1)]
    texts = [UtcTimestamp().process_bind_param(at, sqlite.dialect()) for at in times]

    assert sorted(texts) == [
        UtcTimestamp().process_bind_param(at, sqlite.dialect()) for at in sorted(times)
    ]


def test_bytewise_text_ignores_the_locale_of_a_postgresql_database():
    assert Bytewise.compile(postgresql.dialect()) == 'TEXT COLLATE "C"'
    assert Bytewise.compile(sqlite.dialect()) == "TEXT"
