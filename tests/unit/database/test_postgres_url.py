"""What a PostgreSQL URL may say, and what is added where it says nothing; no server."""

from urllib.parse import unquote

import pytest

from product_consumer.database.postgres_url import PostgresUrl, options_of, read_postgres_url
from product_consumer.errors import ConfigurationError


def read(url: str) -> PostgresUrl:
    return read_postgres_url(url, timeout_seconds=10)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p@one:5433,two:5434/db",
        "postgres://u:p@one:5433,two:5434/db",
        "postgresql+psycopg://u:p@one:5433,two:5434/db",
        "postgresql://u:p@/db?host=one,two&port=5433,5434",
        "postgresql://u:p@/db?host=one:5433&host=two:5434",
        "postgresql://u:p@/db?host=one&host=two&port=5433&port=5434",
        "postgresql://u:p@/db?host=one:5433,two:5434",
        "postgresql://u:p@one,two/db?port=5433,5434",
        "postgresql:///db?user=u&password=p&host=one,two&port=5433,5434",
        "postgresql:///?dbname=db&user=u&password=p&host=one,two&port=5433,5434",
    ],
)
def test_several_hosts_may_be_written_in_any_way(url: str) -> None:
    parameters = read(url).parameters

    expected = {"user": "u", "password": "p", "dbname": "db", "host": "one,two"}
    assert {name: parameters[name] for name in expected} == expected
    assert parameters["port"] == "5433,5434"
    assert parameters["target_session_attrs"] == "read-write"


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("postgresql://one,two/db", "one,two", None),
        ("postgresql://one,two:5434/db", "one,two", ",5434"),
        ("postgresql:///db?host=one,two&port=5434", "one,two", "5434,5434"),
        ("postgresql://u@:5434/db?host=one,two", "one,two", "5434,5434"),
        ("postgresql://[::1]:5433,[fe80::1]/db", "::1,fe80::1", "5433,"),
        ("postgresql:///db?host=::1,fe80::1", "::1,fe80::1", None),
        ("postgresql://%2Frun%2Fpostgresql,two/db", "/run/postgresql,two", None),
        ("postgresql:///db?host=/run/postgresql", "/run/postgresql", None),
        ("postgresql://one:5433/db?application_name=a@b", "one", "5433"),
        ("postgresql://u:p/w@one:5433", "one", "5433"),
        ("postgresql://u@one", "one", None),
        ("postgresql://:5433/db", None, "5433"),
        ("postgresql://", None, None),
    ],
)
def test_hosts_and_ports_are_read_as_libpq_reads_them(
    url: str, host: str | None, port: str | None
) -> None:
    parameters = read(url).parameters

    assert (parameters.get("host"), parameters.get("port")) == (host, port)


@pytest.mark.parametrize("url", ["postgresql://one/db", "postgresql:///db?host=/run/postgresql"])
def test_a_single_host_may_be_any_server(url: str) -> None:
    assert "target_session_attrs" not in read(url).parameters


def test_what_the_url_says_is_kept() -> None:
    said = {
        "options": "-c search_path=app",
        "connect_timeout": "3",
        "keepalives_idle": "7",
        "tcp_user_timeout": "1234",
        "application_name": "mine",
        "target_session_attrs": "any",
        "sslmode": "require",
    }
    query = "&".join(f"{name}={value}" for name, value in said.items()).replace(" ", "%20")

    parameters = read(f"postgresql://one,two/db?{query}").parameters

    assert {name: parameters[name] for name in said} == said


@pytest.mark.parametrize(
    ("variable", "name", "value"),
    [
        ("PGCONNECT_TIMEOUT", "connect_timeout", "3"),
        ("PGTARGETSESSIONATTRS", "target_session_attrs", "primary"),
    ],
)
def test_what_the_environment_says_to_libpq_is_kept(
    monkeypatch: pytest.MonkeyPatch, variable: str, name: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)

    assert name not in read("postgresql://one,two/db").parameters


def test_the_hosts_of_the_environment_count_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "one,two")

    assert read("postgresql:///db").parameters["target_session_attrs"] == "read-write"


def test_all_hosts_together_get_the_time_of_one_call() -> None:
    one, four = read("postgresql://a/db"), read("postgresql://a,b,c,d/db")

    assert one.parameters["connect_timeout"] == "10"
    assert four.parameters["connect_timeout"] == "2"


@pytest.mark.parametrize(
    ("query", "prepares_after"),
    [
        ("", None),
        ("?prepare_threshold=5", 5),
        ("?prepare_threshold=0", 0),
        ("?prepare_threshold=none", 0),
        ("?prepare_threshold=None", 0),
    ],
)
def test_prepared_statements_can_be_turned_off(query: str, prepares_after: int | None) -> None:
    read_url = read(f"postgresql://one/db{query}")

    assert read_url.prepares_after == prepares_after
    assert "prepare_threshold" not in read_url.parameters


@pytest.mark.parametrize("encoding", ["utf8", "UTF-8", "utf_8", "unicode"])
def test_the_text_of_a_session_is_utf8_by_any_of_its_names(encoding: str) -> None:
    url = f"postgresql://one/db?client_encoding={encoding}"

    assert read(url).parameters["client_encoding"] == "UTF8"
    assert read("postgresql://one/db").parameters["client_encoding"] == "UTF8"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("postgresql://one/db?sslmod=require", "sslmod"),
        ("postgresql://one/db?row_factory=x", "row_factory"),
        ("postgresql://one/db?prepare_threshold=often", "prepare_threshold"),
        ("postgresql://one/db?client_encoding=latin1", "client_encoding"),
        ("postgresql://one/db?options=a&options=b", "options"),
        ("postgresql://one:99999/db", "port"),
        ("postgresql://one:0/db", "port"),
        ("postgresql://one:x/db", "port"),
        ("postgresql://one:1:2/db?x", "port"),
        ("postgresql://one/db?port=x", "port"),
        ("postgresql://one,two,three/db?port=1,2", "3 hosts and 2 ports"),
        ("postgresql://u:secret@rest@one/db", "%40"),
    ],
)
def test_what_no_server_could_make_sense_of_is_refused_by_name(url: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match="DATABASE_URL") as refused:
        read(url)
    assert problem in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:secret@one:5433/db?application_name=mine",
        "postgresql://u:secret@one:5433,two:5434/db?application_name=mine",
        "postgresql://u@one:5433/db?password=secret&application_name=mine",
        "postgresql://u@one:5433/db?sslpassword=secret&application_name=mine",
    ],
)
def test_the_address_is_the_url_without_its_passwords(url: str) -> None:
    address = unquote(read(url).address)

    assert "secret" not in address
    for part in ("***", "one", "5433", "/db", "application_name=mine"):
        assert part in address


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ("", {}),
        ("-c search_path=app", {"search_path": "app"}),
        ("-csearch_path=app,public -c a=1", {"search_path": "app,public", "a": "1"}),
        ("--search-path=app", {"search_path": "app"}),
        (r"-c search_path=app,\ public", {"search_path": "app, public"}),
        ("-c Statement_Timeout=5s", {"statement_timeout": "5s"}),
    ],
)
def test_options_are_split_as_the_server_splits_them(
    options: str, settings: dict[str, str]
) -> None:
    assert options_of({"options": options}) == settings


@pytest.mark.parametrize("options", ["-f s", "-c", "-c search_path", "search_path=app"])
def test_options_that_are_no_settings_cannot_go_through_a_pooler(options: str) -> None:
    with pytest.raises(ConfigurationError, match="pooler"):
        options_of({"options": options})
