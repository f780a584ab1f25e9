"""What libpq and PostgreSQL say of a connection that fails: refused by name, or waited for.

Every error here is a real one, of a real server or of the library itself.
"""

import pytest
from sqlalchemy import make_url

from product_consumer.database.connection import Database
from product_consumer.errors import ConfigurationError, LedgerUnavailable

NOWHERE = "postgresql+psycopg://u@127.0.0.1:1/db"


def connect(url: str) -> None:
    database = Database(url, timeout_seconds=2.0, connections=1)
    try:
        with database.reading() as connection:
            connection.exec_driver_sql("SELECT 1")
    finally:
        database.close()


def refusal_of(url: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as refused:
        connect(url)
    return refused.value


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("sslmode=reqire", "reqire"),
        ("sslmod=require", "sslmod"),
        ("target_session_attrs=reed-write", "reed-write"),
        ("gssencmode=never", "never"),
        ("channel_binding=maybe", "maybe"),
        ("ssl_min_protocol_version=TLSv9", "TLSv9"),
        ("service=nosuch", "nosuch"),
    ],
)
def test_a_parameter_that_libpq_does_not_know_is_refused(query: str, words: str) -> None:
    assert words in refusal_of(f"{NOWHERE}?{query}").problem


def test_a_port_that_is_none_is_refused() -> None:
    assert refusal_of(NOWHERE.replace(":1/", ":99999/")).setting == "DATABASE_URL"


@pytest.mark.parametrize("host", ["data base", "db..example.com", "300.1.1.1", "x" * 64])
def test_a_name_that_can_never_be_one_is_refused(host: str) -> None:
    assert refusal_of(NOWHERE.replace("127.0.0.1", host)).setting == "DATABASE_URL"


@pytest.mark.parametrize(
    ("variable", "value"),
    [("PGSSLMODE", "typo"), ("PGSERVICE", "nosuch"), ("PGCHANNELBINDING", "typo")],
)
def test_a_variable_of_libpq_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)

    assert refusal_of(NOWHERE).setting == variable


def test_a_missing_file_of_services_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSERVICE", "any")
    monkeypatch.setenv("PGSERVICEFILE", "/no/such/file")

    assert refusal_of(NOWHERE).setting == "PGSERVICEFILE"


def test_what_the_server_refuses_for_good_is_refused(postgres_url: str) -> None:
    url = make_url(postgres_url)
    shown = [
        url.set(username="nobody"),
        url.set(database="nothing"),
        url.update_query_dict({"sslmode": "require"}),
        url.update_query_dict({"sslmode": "verify-full", "sslrootcert": "/no/such"}),
    ]
    for one in shown:
        refused = refusal_of(one.render_as_string(hide_password=False))
        assert refused.setting == "DATABASE_URL"


def test_a_variable_that_the_server_refuses_is_named(
    monkeypatch: pytest.MonkeyPatch, postgres_url: str
) -> None:
    with monkeypatch.context() as environment:
        environment.setenv("PGTZ", "nonsense")
        refused = refusal_of(postgres_url)

    assert refused.setting == "PGTZ"


@pytest.mark.parametrize(
    "url", [NOWHERE, "postgresql+psycopg://u@database.invalid/db", "postgresql://u@/db?host=/no"]
)
def test_a_server_that_is_not_there_yet_is_waited_for(url: str) -> None:
    with pytest.raises(LedgerUnavailable):
        connect(url)
