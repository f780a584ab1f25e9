"""A connection to Milvus that fails: refused by name where no wait mends it."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from product_consumer.errors import ConfigurationError, StoreUnavailable
from product_consumer.stores.milvus.client import MilvusConnection
from tests.support.certificate_authority import Authority, tls_server
from tests.support.paths import REPOSITORY


def connect(address: str) -> None:
    connection = MilvusConnection(address, token=None, timeout_seconds=1.0)
    try:
        connection.call(lambda client: None)
    finally:
        connection.close()


def refusal_of(address: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as refused:
        connect(address)
    return refused.value


def test_a_server_by_tls_only_is_refused_without_tls(tmp_path: Path) -> None:
    with tls_server(Authority(tmp_path).issue()) as port:
        assert refusal_of(f"http://127.0.0.1:{port}").setting == "MILVUS_URI"


def test_a_server_of_an_unknown_ca_names_the_file_for_it(tmp_path: Path) -> None:
    with tls_server(Authority(tmp_path).issue()) as port:
        refused = refusal_of(f"https://127.0.0.1:{port}")

    assert refused.setting == "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"
    assert "certificate verify failed" in refused.problem


def test_a_server_that_speaks_another_protocol_is_refused(elasticmq_url: str) -> None:
    assert refusal_of(elasticmq_url).setting == "MILVUS_URI"


def test_a_server_that_is_not_there_is_waited_for_and_the_system_says_why() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(StoreUnavailable, match="Connection refused"):
            connect(f"http://127.0.0.1:{closed.getsockname()[1]}")


def test_variables_that_the_library_reads_at_its_import_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("MILVUS_URI=x\n".encode("utf-16"))
    done = subprocess.run(
        [sys.executable, "-c", "import product_consumer.stores.milvus.client"],
        env={
            "PYTHONPATH": str(REPOSITORY),
            "MILVUS_URI": "./vectors.db",
            "MILVUS_CONN_TIMEOUT": "soon",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (done.returncode, done.stderr) == (0, "")
