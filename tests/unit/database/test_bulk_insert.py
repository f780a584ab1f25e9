"""The statement that records a batch on PostgreSQL; no server."""

from datetime import timedelta

from psycopg._queries import MAX_CACHED_STATEMENT_LENGTH, MAX_CACHED_STATEMENT_PARAMS
from sqlalchemy.dialects.postgresql import psycopg

from product_consumer.database.connection import Database
from product_consumer.ledger.recording import Recording


def test_the_driver_keeps_the_statement_that_records_a_batch_parsed():
    database = Database("postgresql://nobody@nowhere/none", timeout_seconds=1, connections=1)
    [statement] = Recording(database, timedelta(minutes=5))._upsert._statements

    compiled = statement.compile(dialect=psycopg.dialect())

    assert len(compiled.string) <= MAX_CACHED_STATEMENT_LENGTH
    assert len(compiled.params) <= MAX_CACHED_STATEMENT_PARAMS
