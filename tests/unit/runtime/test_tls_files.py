"""Certificates that users made for `--tlsverify`, as Docker's guide and docker-machine make them."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography import x509

from skep.runtime.tls_files import client_context, server_context
from tests.certificates import make_certificates


def test_certificates_without_an_authority_key_identifier_are_taken_on_both_ends(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    server_pem = tmp_path / "server-cert.pem"
    with pytest.raises(x509.ExtensionNotFound):
        x509.load_pem_x509_certificate(server_pem.read_bytes()).extensions.get_extension_for_class(
            x509.AuthorityKeyIdentifier
        )
    server = server_context(tmp_path / "ca.pem", server_pem, tmp_path / "server-key.pem")
    client = client_context(tmp_path / "ca.pem", tmp_path / "cert.pem", tmp_path / "key.pem")
    assert shake_hands(client, server, "127.0.0.1") == ("client", "server")


def test_a_server_of_another_name_is_refused(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    server = server_context(tmp_path / "ca.pem", tmp_path / "server-cert.pem", tmp_path / "server-key.pem")
    client = client_context(tmp_path / "ca.pem", tmp_path / "cert.pem", tmp_path / "key.pem")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"127\.0\.0\.2"):
        shake_hands(client, server, "127.0.0.2")


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> tuple[str, str]:
    """Returns whom the server sees, and whom the client sees."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(down, up, server_hostname=name),
        server.wrap_bio(up, down, server_side=True),
    )
    for _ in range(6):  # flights of one handshake
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return common_name(ends[1]), common_name(ends[0])


def common_name(end: ssl.SSLObject) -> str:
    certificate = end.getpeercert()
    assert certificate is not None
    return next(value for ((key, value),) in certificate["subject"] if key == "commonName")
