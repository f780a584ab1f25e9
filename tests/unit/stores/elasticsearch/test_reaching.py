"""A wrong address of Elasticsearch is told before a start loads the model."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from product_consumer.errors import ConfigurationError, StoreUnavailable
from product_consumer.stores.elasticsearch.reaching import reach
from tests.support.certificate_authority import Authority, tls_server


def refusal_of(url: str, api_key: str | None = None) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as refused:
        reach(url, api_key=api_key, timeout_seconds=3.0)
    return refused.value


def test_a_server_is_reached(elasticsearch_url: str) -> None:
    reach(elasticsearch_url, api_key=None, timeout_seconds=3.0)


@pytest.mark.parametrize(
    "change",
    [
        lambda url: url.replace("http", "https"),
        lambda url: f"{url}/a/b",
    ],
    ids=["tls", "path"],
)
def test_a_wrong_address_of_a_server_is_refused(
    elasticsearch_url: str, change: Callable[[str], str]
) -> None:
    assert refusal_of(change(elasticsearch_url)).setting == "ELASTICSEARCH_URL"


def test_a_server_that_is_not_elasticsearch_is_refused(elasticmq_url: str) -> None:
    assert refusal_of(elasticmq_url).setting == "ELASTICSEARCH_URL"


def test_a_server_by_tls_only_is_refused_without_tls(tmp_path: Path) -> None:
    with tls_server(Authority(tmp_path).issue()) as port:
        refused = refusal_of(f"http://127.0.0.1:{port}")

    assert "write https://" in refused.problem


def test_the_cause_of_a_failed_tls_is_told(tmp_path: Path) -> None:
    with tls_server(Authority(tmp_path).issue()) as port:
        refused = refusal_of(f"https://127.0.0.1:{port}")

    assert refused.setting == "SSL_CERT_FILE"
    assert "unable to get local issuer certificate" in refused.problem


def test_a_certificate_of_another_host_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
    with tls_server(authority.issue("other.example")) as port:
        refused = refusal_of(f"https://127.0.0.1:{port}")

    assert refused.setting == "ELASTICSEARCH_URL"


def test_a_certificate_that_is_not_valid_yet_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
    with (
        tls_server(authority.issue(valid_in_days=1)) as port,
        pytest.raises(StoreUnavailable, match="not yet valid"),
    ):
        reach(f"https://127.0.0.1:{port}", api_key=None, timeout_seconds=3.0)


def test_a_server_that_is_not_there_is_waited_for_and_the_system_says_why() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        with pytest.raises(StoreUnavailable, match="Connection refused"):
            reach(f"http://127.0.0.1:{port}", api_key=None, timeout_seconds=3.0)
