"""The environment: what is read into it, what is set right in it, and what cannot be used."""

import os
import tempfile
import urllib.request
from pathlib import Path

import grpc
import pytest
import requests.utils

from product_consumer.environment import (
    provide_temporary_directory,
    read_environment,
    variable_quoted_in,
    variables,
)
from product_consumer.errors import ConfigurationError


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("THREADS=3\n".encode("utf-16"), "not UTF-8"),
        (b"X=\xe9\n", "not UTF-8"),
        (b"X=a\0b\n", "NUL"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_by_name(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    env_file = tmp_path / ".env"
    env_file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=problem) as refused:
        read_environment(env_file)

    assert refused.value.setting == str(env_file)


def test_a_file_of_another_user_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("product_consumer.environment.load_dotenv", refuse)
    with pytest.raises(ConfigurationError, match="Permission denied"):
        read_environment(tmp_path / ".env")


def test_a_folder_of_that_name_is_no_file(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()

    assert read_environment(tmp_path / ".env")


@pytest.mark.parametrize("given", ["", "localhost", "example.com, 10.0.0.0/8"])
@pytest.mark.parametrize("name", ["http_proxy", "HTTPS_PROXY", "all_proxy", "grpc_proxy"])
def test_loopback_is_never_reached_by_a_proxy(
    monkeypatch: pytest.MonkeyPatch, name: str, given: str
) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", given)
    read_environment(None)

    for host in ("localhost", "127.0.0.1", "[::1]"):
        url = f"http://{host}:9324"
        assert urllib.request.proxy_bypass(f"{host}:9324")
        assert requests.utils.should_bypass_proxies(url, no_proxy=None)
    assert not urllib.request.proxy_bypass("sqs.us-east-1.amazonaws.com")
    assert os.environ["no_proxy"].startswith(given.replace(", ", ","))


def test_what_upper_case_says_is_kept_for_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "example.com")
    read_environment(None)

    assert os.environ["no_proxy"] == os.environ["NO_PROXY"]
    assert urllib.request.proxy_bypass("example.com")


def test_grpc_reaches_loopback_past_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("grpc_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_grpc_proxy", "example.com")
    read_environment(None)
    server = grpc.server(None)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        grpc.channel_ready_future(channel).result(timeout=5.0)
    server.stop(None).wait(5.0)


def test_nothing_is_set_where_there_is_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    read_environment(None)

    assert "no_proxy" not in os.environ


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_certificates_that_cannot_be_used_name_their_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setenv(name, str(tmp_path / "missing.pem"))
    with pytest.raises(ConfigurationError) as refused:
        read_environment(None)

    assert refused.value.setting == name


def test_a_way_to_poll_that_grpc_would_abort_at_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GRPC_POLL_STRATEGY", "nosuch")
    with pytest.raises(ConfigurationError, match="needs one of"):
        read_environment(None)


def test_a_directory_for_temporary_files_is_made_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", "/no/such")
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [os.environ["TMPDIR"]])
    provide_temporary_directory(tmp_path / "tmp")

    assert tempfile.gettempdir() == str(tmp_path / "tmp")


def test_no_directory_for_temporary_files_at_all_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/no/such"])
    with pytest.raises(ConfigurationError) as refused:
        provide_temporary_directory(Path("/proc/no/such"))

    assert refused.value.setting == "TMPDIR"


def test_the_variable_that_an_error_quotes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSSLMODE", "typo")
    monkeypatch.setenv("PGHOST", "h")

    assert variable_quoted_in('invalid sslmode value: "typo"', "PG", '"') == "PGSSLMODE"
    assert variable_quoted_in('invalid sslmode value: "other"', "PG", '"') is None


def test_changed_variables_are_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILVUS_URI", "./vectors.db")
    with variables({"MILVUS_URI": "", "MILVUS_NEW": "x"}):
        assert (os.environ["MILVUS_URI"], os.environ["MILVUS_NEW"]) == ("", "x")

    assert os.environ["MILVUS_URI"] == "./vectors.db"
    assert "MILVUS_NEW" not in os.environ
