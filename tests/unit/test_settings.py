"""Settings: values that are read, values that are refused, secrets that are never printed."""

import re
from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import ValidationError

from product_consumer.errors import ConfigurationError
from product_consumer.queue_addresses import StreamName
from product_consumer.settings import Settings, read_settings
from scripts import configuration_page
from tests.support.paths import REPOSITORY

QUEUE = "https://sqs.eu-west-1.amazonaws.com/1/products"
OTHER_QUEUE = "https://sqs.eu-west-1.amazonaws.com/1/others"


def settings(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return read_settings(env_file=None)


def test_nothing_set_gives_embedded_stores_and_the_default_model() -> None:
    read = read_settings(env_file=None)

    assert read.sqs_queue_url is None
    assert read.ledger_url.endswith("/data/products.db")
    assert read.milvus_address.endswith("/data/milvus.db")
    assert read.elasticsearch_url is None
    assert (read.openclip_model, read.openclip_pretrained) == ("ViT-L-14-336", "openai")
    assert (read.threads, read.sqs_visibility_timeout_seconds) == (10, 120)


@pytest.mark.parametrize(
    ("variables", "budget"),
    [
        ({}, 12),
        ({"THREADS": "4"}, 6),
        ({"THREADS": "64"}, 12),
        ({"THREADS": "64", "DATABASE_CONNECTIONS": "20"}, 20),
        ({"DATABASE_CONNECTIONS": "1"}, 1),
    ],
)
def test_the_budget_of_connections_follows_from_the_threads_unless_it_is_set(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], budget: int
) -> None:
    assert settings(monkeypatch, **variables).connection_budget == budget


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError):
        read_settings(env_file=None).threads = 3  # type: ignore[misc]


def test_a_file_is_read_and_the_environment_wins_over_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("THREADS=3\nBATCH_SIZE=4\n")
    monkeypatch.setenv("THREADS", "7")
    read = read_settings(env_file=env_file)

    assert (read.threads, read.batch_size) == (7, 4)


def test_old_names_still_work(monkeypatch: pytest.MonkeyPatch) -> None:
    read = settings(monkeypatch, MILVUS_HOST="milvus", MILVUS_PORT="19531", ES_HOST="es")

    assert read.milvus_address == "http://milvus:19531"
    assert read.elasticsearch_url is not None
    assert read.elasticsearch_url.get_secret_value() == "http://es:9200"


def test_an_old_name_may_hold_a_whole_url(monkeypatch: pytest.MonkeyPatch) -> None:
    read = settings(monkeypatch, ES_HOST="https://es.example:9243")

    assert read.elasticsearch_url is not None
    assert read.elasticsearch_url.get_secret_value() == "https://es.example:9243"


def test_a_new_name_wins_over_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    read = settings(monkeypatch, MILVUS_URI="http://new:1", MILVUS_HOST="old")

    assert read.milvus_address == "http://new:1"


@pytest.mark.parametrize(
    ("name", "dead_letter_name"),
    [
        ("QUEUE_URL", "DEAD_LETTER_QUEUE_URL"),
        ("SQS_QUEUE_URL", "SQS_DEAD_LETTER_QUEUE_URL"),
        ("QUEUE_URL", "SQS_DEAD_LETTER_QUEUE_URL"),
    ],
)
def test_a_queue_has_the_names_by_which_it_was_set(
    monkeypatch: pytest.MonkeyPatch, name: str, dead_letter_name: str
) -> None:
    read = settings(monkeypatch, **{name: QUEUE, dead_letter_name: OTHER_QUEUE})

    address = read.queue_of(StreamName.PRODUCTS)
    assert (address.url, address.dead_letter_url) == (QUEUE, OTHER_QUEUE)
    assert (address.url_setting, address.dead_letter_url_setting) == (name, dead_letter_name)


def test_each_stream_has_a_queue_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    read = settings(monkeypatch, ORDERS_QUEUE_URL=QUEUE, ORDERS_DEAD_LETTER_QUEUE_URL=OTHER_QUEUE)

    orders, products = read.queue_of(StreamName.ORDERS), read.queue_of(StreamName.PRODUCTS)
    assert (orders.url, orders.dead_letter_url) == (QUEUE, OTHER_QUEUE)
    assert (products.url, products.dead_letter_url) == (None, None)
    assert (orders.url_setting, products.url_setting) == ("ORDERS_QUEUE_URL", "QUEUE_URL")


def test_both_names_of_a_queue_may_hold_the_same_url(monkeypatch: pytest.MonkeyPatch) -> None:
    read = settings(monkeypatch, QUEUE_URL=QUEUE, SQS_QUEUE_URL=QUEUE)

    assert read.queue_of(StreamName.PRODUCTS).url_setting == "QUEUE_URL"


@pytest.mark.parametrize("name", ["QUEUE_URL", "DEAD_LETTER_QUEUE_URL"])
def test_two_names_of_a_queue_with_different_urls_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"SQS_{name}: differs from {name}"):
        settings(monkeypatch, **{name: QUEUE, f"SQS_{name}": OTHER_QUEUE})


def test_an_empty_value_means_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings(monkeypatch, THREADS="", DATABASE_URL="").threads == 10


def test_an_empty_default_currency_means_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings(monkeypatch, DEFAULT_CURRENCY="").default_currency == ""


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    read = settings(
        monkeypatch,
        IMAGE_ALLOWED_NETWORKS="127.0.0.0/8, fd00::/8",
        IMAGE_ALLOWED_PORTS="80,8080",
        MILVUS_VECTOR_FIELDS="combined,text",
    )

    assert read.image_allowed_networks == (ip_network("127.0.0.0/8"), ip_network("fd00::/8"))
    assert read.image_allowed_ports == (80, 8080)
    assert read.milvus_vector_fields == ("text", "combined")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SQS_VISIBILITY_TIMEOUT_SECONDS", "1"),
        ("SQS_VISIBILITY_TIMEOUT_SECONDS", "43201"),
        ("SQS_VISIBILITY_TIMEOUT_SECONDS", "soon"),
        ("QUEUE_URL", "products"),
        ("QUEUE_URL", "https://sqs.eu-west-1.amazonaws.com/1/products.fifo"),
        ("DEAD_LETTER_QUEUE_URL", "://products"),
        ("ORDERS_QUEUE_URL", "orders"),
        ("SQS_QUEUE_URL", "products"),
        ("SQS_QUEUE_URL", "https://sqs.eu-west-1.amazonaws.com/1/products.fifo"),
        ("THREADS", "0"),
        ("DEVICE", "gpu"),
        ("DEFAULT_CURRENCY", "dong"),
        ("SOURCE_TIMEZONE", "Mars/Olympus"),
        ("IMAGE_ALLOWED_NETWORKS", "everything"),
        ("IMAGE_ALLOWED_PORTS", "80,http"),
        ("MILVUS_VECTOR_FIELDS", "sound"),
        ("MILVUS_COLLECTION", "a b"),
        ("LOG_FORMAT", "xml"),
    ],
)
def test_a_value_that_cannot_work_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        settings(monkeypatch, **{name: value})

    assert refused.value.setting == name


def test_one_key_without_the_other_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="together"):
        settings(monkeypatch, SQS_ACCESS_KEY="only-half")


def test_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    read = settings(
        monkeypatch,
        SQS_ACCESS_KEY="hidden-1",
        SQS_SECRET_KEY="hidden-2",
        DATABASE_URL="postgresql+psycopg://user:hidden-3@host/db",
        MILVUS_TOKEN="hidden-4",
        ELASTICSEARCH_URL="http://user:hidden-5@host",
        ELASTICSEARCH_API_KEY="hidden-6",
        QUEUE_URL="other://user:hidden-7@host/products",
        DEAD_LETTER_QUEUE_URL="other://user:hidden-8@host/dead",
        ORDERS_QUEUE_URL="other://user:hidden-9@host/orders",
    )

    assert "hidden" not in f"{read!r} {read}"
    assert "hidden" not in f"{[read.queue_of(stream) for stream in StreamName]}"


def test_the_example_file_shows_every_setting_with_its_default() -> None:
    text = (REPOSITORY / ".env.example").read_text()
    documented = dict(re.findall(r"^#?([A-Z][A-Z0-9_]*)=(.*)$", text, flags=re.MULTILINE))
    defaults = {
        name.upper(): configuration_page.as_text(field.default)
        for name, field in Settings.model_fields.items()
    }

    assert documented == defaults


def test_the_example_file_says_of_every_setting_what_it_means() -> None:
    entries = list(configuration_page.entries((REPOSITORY / ".env.example").read_text()))

    assert [entry.name for entry in entries if not entry.meaning or not entry.section] == []


def test_the_example_file_gives_the_range_of_every_number() -> None:
    entries = configuration_page.entries((REPOSITORY / ".env.example").read_text())
    given = {entry.name: entry.bounds for entry in entries}
    ranges = {
        name.upper(): configuration_page.bounds_of(field)
        for name, field in Settings.model_fields.items()
    }

    assert given == ranges


def test_the_configuration_page_is_made_of_the_settings_and_the_example_file() -> None:
    page = (REPOSITORY / "docs" / "configuration.md").read_text()

    assert page == configuration_page.page(), "run: python -m scripts.configuration_page"
