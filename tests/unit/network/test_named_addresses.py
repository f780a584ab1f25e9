"""The addresses of the settings: read, understood, or refused by the name of their setting."""

import pytest

from product_consumer.errors import ConfigurationError
from product_consumer.settings import Settings, read_settings


def settings(**values: str) -> Settings:
    return read_settings(None, **values)


@pytest.mark.parametrize(
    ("values", "address"),
    [
        ({"milvus_uri": "tcp://10.0.0.1:19530"}, "http://10.0.0.1:19530"),
        ({"milvus_host": "tcp://10.0.0.1:19530"}, "http://10.0.0.1:19530"),
        ({"milvus_host": "h", "milvus_port": "tcp://10.0.0.1:19531"}, "http://h:19531"),
        ({"milvus_uri": "./vectors.db"}, "./vectors.db"),
        ({"milvus_uri": "vectors.db"}, "vectors.db"),
        ({"milvus_uri": "/data/vectors"}, "/data/vectors"),
    ],
)
def test_an_address_of_milvus_is_understood(values: dict[str, str], address: str) -> None:
    assert settings(**values).milvus_address == address


def test_a_link_to_elasticsearch_is_understood() -> None:
    url = settings(es_host="tcp://10.0.0.1:9200").elasticsearch_url

    assert url is not None
    assert url.get_secret_value() == "http://10.0.0.1:9200"


def test_a_port_of_a_service_of_the_cluster_is_no_setting() -> None:
    link = {"metrics_port": "tcp://10.0.0.1:9090", "metrics_service_host": "10.0.0.1"}

    assert settings(**link).metrics_port is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("milvus_uri", "localhost:19530"),
        ("milvus_uri", "milvus"),
        ("milvus_uri", "htp://localhost:19530"),
        ("milvus_uri", "http://localhost:195300"),
        ("elasticsearch_url", "localhost:9200"),
        ("elasticsearch_url", "http://localhost:port"),
        ("aws_endpoint_url", "localhost:9324"),
        ("aws_endpoint_url", "htp://localhost:9324"),
        ("aws_endpoint_url", "http://sqs..example"),
        ("queue_url", "https://sqs.us-east-1.amazonaws.com"),
        ("queue_url", "https://sqs.us-east-1.amazonaws.com:99999/1/q"),
        ("orders_queue_url", "https:///1/q"),
        ("quality_llm_url", "http://"),
        ("metrics_host", "a b"),
        ("metrics_port", "tcp://10.0.0.1:9090"),
        ("api_host", "300.1.1.1"),
        ("database_url", "postgresql://u:p@127.0.0.1:99999/db"),
        ("database_url", "postgresql+psycopg://u@data base/db"),
        ("database_url", "postgresql://u:p@:5432/db"),
        ("sqs_access_key", "a\nb"),
        ("sqs_access_key", "kéy"),
    ],
)
def test_an_address_that_can_never_be_one_is_refused_by_name(name: str, value: str) -> None:
    beside = {"sqs_secret_key": "x", "quality_llm_model": "m"}
    with pytest.raises(ConfigurationError) as refused:
        settings(
            **{**beside, **({} if name == "sqs_access_key" else {"sqs_access_key": "x"})}
            | {name: value}
        )

    assert refused.value.setting == name.upper()
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "postgresql:///db",
            "postgresql://u:p/w?d@h/db",
            "postgresql://u@/db?host=/run/postgresql",
        ),
        *(
            "postgresql://h1,h2/db",
            "postgresql+psycopg://u@[::1]:5432/db",
            "sqlite:////data/a b.db",
        ),
    ],
)
def test_a_url_that_a_database_understands_is_taken(url: str) -> None:
    assert settings(database_url=url).ledger_url == url
