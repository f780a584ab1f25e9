"""TLS: what OpenSSL says about a server, and which files of certificates can be used."""

import os
import socket
from pathlib import Path

import pytest

from product_consumer.network import tls
from product_consumer.network.tls import (
    cause_in_words,
    check_certificates,
    clock_is_set,
    why_plain_fails,
    why_tls_fails,
)
from product_consumer.refusals import TLS_ONLY
from tests.support.certificate_authority import Authority, tls_server


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def test_a_server_of_a_known_ca_can_be_asked(authority: Authority) -> None:
    with tls_server(authority.issue()) as port:
        assert why_tls_fails("127.0.0.1", port, str(authority.ca_file)) == ""


def test_a_server_of_an_unknown_ca_is_told(authority: Authority) -> None:
    with tls_server(authority.issue()) as port:
        assert "certificate verify failed" in why_tls_fails("127.0.0.1", port)


def test_a_certificate_that_begins_tomorrow_is_told(authority: Authority) -> None:
    with tls_server(authority.issue(valid_in_days=1)) as port:
        words = why_tls_fails("127.0.0.1", port, str(authority.ca_file))

    assert "certificate is not yet valid" in words


def test_a_server_that_speaks_tls_only_is_noticed(authority: Authority) -> None:
    with tls_server(authority.issue()) as port:
        assert why_plain_fails("127.0.0.1", port) == TLS_ONLY


def test_nothing_is_said_of_a_server_that_does_not_answer() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]

        assert (why_plain_fails("127.0.0.1", port), why_tls_fails("127.0.0.1", port)) == ("", "")


def test_the_words_of_the_system_are_found_behind_a_librarys_error() -> None:
    try:
        try:
            raise ConnectionRefusedError(111, "Connection refused")
        except OSError as error:
            raise RuntimeError("Connection error") from error
    except RuntimeError as error:
        assert cause_in_words(error) == "Connection refused"
    assert cause_in_words(ValueError("no system")) == ""


def test_files_and_folders_of_certificates_can_be_used(authority: Authority) -> None:
    for path in (authority.ca_file, authority.ca_file.parent):
        assert check_certificates(str(path)) == str(path)


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_anything_else_is_no_file_of_certificates(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ValueError, match=r"cannot be read|no certificate"):
        check_certificates(str(file))


def test_a_clock_is_not_set_while_it_is_before_the_installation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    installed = tmp_path / "tls.py"
    installed.touch()
    monkeypatch.setattr(tls, "__file__", str(installed))
    assert clock_is_set()

    os.utime(installed, (4e9, 4e9))
    assert not clock_is_set()
