"""Certificates of machines, looked at with `cryptography` and with OpenSSL's eyes."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from skep.machine import certs
from skep.machine.certs import DAY_S, LEAF_S, Pair
from skep.runtime.errors import Corrupt

NOW = 1_800_000_000.0
NAMES = ("10.0.0.5", "mg0.example", "fd00::5", "localhost", "127.0.0.1")


def made() -> tuple[Pair, Pair, Pair]:
    ca = certs.new_ca("ada.laptop", NOW)
    return ca, certs.new_client(ca, "ada.laptop", NOW), certs.new_server(ca, "ada.laptop", NAMES, NOW)


def loaded(pair: Pair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.certificate_pem)


def test_keys_are_of_the_curve_that_all_of_docker_takes() -> None:
    for pair in made():
        key = loaded(pair).public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert key.curve.name == "secp256r1"


def test_each_is_for_what_it_is_for() -> None:
    ca, client, server = (loaded(pair) for pair in made())
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(
        True, 0
    )
    assert ca.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    for leaf, usage in ((client, ExtendedKeyUsageOID.CLIENT_AUTH), (server, ExtendedKeyUsageOID.SERVER_AUTH)):
        assert list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [usage]
        assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        use = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
        assert use.digital_signature
        assert not use.key_cert_sign


def test_a_server_has_the_names_by_which_it_is_reached() -> None:
    _, client, server = made()
    assert certs.names_of(server.certificate_pem) == NAMES
    assert certs.names_of(client.certificate_pem) == ()
    assert certs.server_names("10.0.0.5", ("localhost", "a.example")) == (
        "10.0.0.5",
        "localhost",
        "a.example",
        "127.0.0.1",
    )


def test_they_live_as_long_as_docker_machines_and_never_longer_than_their_authority() -> None:
    ca, client, _ = made()
    assert certs.expires_at(client.certificate_pem) == NOW + LEAF_S
    late = certs.expires_at(ca.certificate_pem) - 40 * DAY_S
    young = certs.new_client(ca, "ada.laptop", late)
    assert certs.expires_at(young.certificate_pem) == certs.expires_at(ca.certificate_pem)
    assert loaded(client).not_valid_before_utc == datetime.fromtimestamp(NOW - DAY_S - 3600, UTC)


@pytest.mark.parametrize(("left_days", "soon"), [(31, False), (29, True), (-1, True)])
def test_what_ends_within_a_month_ends_soon(left_days: int, soon: bool) -> None:
    _, client, _ = made()
    at = certs.expires_at(client.certificate_pem) - left_days * DAY_S
    assert certs.ends_soon(client.certificate_pem, at) is soon


def test_who_signed_what() -> None:
    ca, client, _ = made()
    other, _, _ = made()
    assert certs.is_of(client.certificate_pem, ca.certificate_pem)
    assert not certs.is_of(client.certificate_pem, other.certificate_pem), "of the same name, and another key"


def test_what_is_no_certificate_is_said() -> None:
    with pytest.raises(Corrupt):
        certs.expires_at(b"nothing")
    ca, _, _ = made()
    with pytest.raises(Corrupt):
        certs.new_client(Pair(ca.certificate_pem, b"nothing"), "ada", NOW)


def test_a_key_is_in_no_text() -> None:
    assert "PRIVATE" not in repr(made())


def test_openssl_says_the_same(tmp_path: Path) -> None:
    now = datetime.now(UTC).timestamp()
    ca = certs.new_ca("x" * 100, now)
    for name, pair in (
        ("ca", ca),
        ("server", certs.new_server(ca, "ada.laptop", NAMES, now)),
        ("client", certs.new_client(ca, "ada.laptop", now)),
    ):
        (tmp_path / f"{name}.pem").write_bytes(pair.certificate_pem)
        (tmp_path / f"{name}-key.pem").write_bytes(pair.key_pem)
    for purpose, name, right in (
        ("sslserver", "server", True),
        ("sslclient", "client", True),
        ("sslclient", "server", False),
        ("sslserver", "client", False),
    ):
        checked = openssl(tmp_path, f"verify -x509_strict -CAfile ca.pem -purpose {purpose} {name}.pem")
        assert (checked.returncode == 0) is right, checked.stderr
    assert openssl(tmp_path, "verify -CAfile ca.pem -verify_ip fd00::5 server.pem").returncode == 0
    assert openssl(tmp_path, "verify -CAfile ca.pem -verify_ip 10.0.0.6 server.pem").returncode != 0
    of_key = openssl(tmp_path, "pkey -in server-key.pem -pubout").stdout
    assert of_key == openssl(tmp_path, "x509 -in server.pem -noout -pubkey").stdout != ""


def openssl(directory: Path, line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["openssl", *line.split()], cwd=directory, capture_output=True, text=True, check=False
    )
