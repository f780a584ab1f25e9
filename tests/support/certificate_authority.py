"""Certificates of a CA of the tests' own, and a server that shows one."""

import datetime
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from socket import create_server

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = datetime.timedelta(days=1)


class Authority:
    """A CA whose certificate is in ``ca_file``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "A CA of the tests")])
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_bytes(self._sign(self._name, self._key.public_key(), ca=True))

    def issue(self, host: str = "127.0.0.1", *, valid_in_days: int = -1) -> Path:
        """Return a file with the certificate of a host and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        file = self._folder / f"{host}-{valid_in_days}.pem"
        file.write_bytes(private + self._sign(name, key.public_key(), valid_in_days, host))
        return file

    def _sign(
        self,
        name: x509.Name,
        key: ec.EllipticCurvePublicKey,
        valid_in_days: int = -1,
        host: str = "",
        *,
        ca: bool = False,
    ) -> bytes:
        begins = datetime.datetime.now(datetime.UTC) + valid_in_days * _DAY
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(begins + 30 * _DAY)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if host:
            is_address = host[:1].isdigit()
            entry = x509.IPAddress(ip_address(host)) if is_address else x509.DNSName(host)
            builder = builder.add_extension(x509.SubjectAlternativeName([entry]), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@contextmanager
def tls_server(certificate: Path) -> Iterator[int]:
    """Yield the port of a server on loopback that shakes hands by TLS and then hangs up."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with suppress(OSError), context.wrap_socket(connection, server_side=True):
                    pass
                connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield int(listening.getsockname()[1])
        finally:
            # Closing alone does not wake a thread that accepts.
            with suppress(OSError):
                listening.shutdown(2)
            thread.join(5.0)
