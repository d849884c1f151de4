"""Certificates of machines: one authority and one client for all of a user's machines, a server for each.

As docker-machine's, but with P-256 keys, which Docker has taken since before 20.10. Time is an argument.
"""

from __future__ import annotations

import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

from skep.rpc.certificates import is_issued_by, is_key_of
from skep.rpc.issuing import begun, key_id_of, key_usage
from skep.runtime.errors import Corrupt

DAY_S = 86400.0
# Ten years: a CA that ends is the end of all its machines at once, of which docker-machine's users (1,080
# days) heard only then.
CA_S = 3650 * DAY_S
LEAF_S = 1080 * DAY_S  # docker-machine's
EARLY_S = 30 * DAY_S  # what ends within a month is made anew by whoever makes certificates
# They begin a day ago, for hosts whose clock is behind: many show local time, or are an hour wrong in summer.
BEHIND_S = DAY_S


class Pair(Struct, frozen=True):
    """A certificate and its private key, PEM."""

    certificate_pem: bytes
    key_pem: bytes

    def __repr__(self) -> str:
        """Whatever prints it (a log, a trace) does not show the key."""
        return "Pair(…)"


def new_ca(organization: str, now: float) -> Pair:
    """Returns an authority that signs itself. `organization` says whose it is: user.host."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(organization, "skep machine CA")
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        begun(name, name, key.public_key(), now - BEHIND_S, now + CA_S)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(signs=True), critical=True)
        .add_extension(own, critical=False)
    )
    return Pair(_pem(builder.sign(key, hashes.SHA256())), _key_pem(key))


def new_client(ca: Pair, organization: str, now: float) -> Pair:
    """Returns what a docker client shows. Errors: `Corrupt` where the authority cannot be read."""
    return _leaf(ca, _name(organization, "client"), ExtendedKeyUsageOID.CLIENT_AUTH, (), now)


def new_server(ca: Pair, organization: str, names: tuple[str, ...], now: float) -> Pair:
    """Returns what an engine shows. `names`: by which it is reached, IP addresses or names. Errors:
    `Corrupt`."""
    return _leaf(ca, _name(organization, names[0]), ExtendedKeyUsageOID.SERVER_AUTH, names, now)


def server_names(address: str, more: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the names of a machine's server: its address, those asked for, and its own of itself."""
    return tuple(dict.fromkeys((address, *more, "localhost", "127.0.0.1")))


def names_of(certificate_pem: bytes) -> tuple[str, ...]:
    """Returns by which names a server may be reached. Errors: `Corrupt`."""
    try:
        found = _load(certificate_pem).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(each.value) for each in found)


def expires_at(certificate_pem: bytes) -> float:
    """Returns until when it is valid, epoch seconds. Errors: `Corrupt`."""
    return _load(certificate_pem).not_valid_after_utc.timestamp()


def ends_soon(certificate_pem: bytes, now: float) -> bool:
    """True where it has ended, or will within a month. Errors: `Corrupt`."""
    return expires_at(certificate_pem) < now + EARLY_S


def is_pair(pair: Pair) -> bool:
    """True where the key is the certificate's. Errors: `Corrupt`."""
    try:
        return is_key_of(pair.key_pem, pair.certificate_pem)
    except (ValueError, TypeError) as error:
        raise Corrupt(f"a certificate or its key cannot be read: {error}") from error


def is_of(certificate_pem: bytes, ca_pem: bytes) -> bool:
    """True where the authority has signed it. Errors: `Corrupt`."""
    return is_issued_by(_load(certificate_pem), _load(ca_pem))


def _leaf(
    ca: Pair, name: x509.Name, usage: x509.ObjectIdentifier, names: tuple[str, ...], now: float
) -> Pair:
    issuer, issuer_key = _load(ca.certificate_pem), _load_key(ca.key_pem)
    key = ec.generate_private_key(ec.SECP256R1())
    until = min(now + LEAF_S, issuer.not_valid_after_utc.timestamp())
    builder = (
        begun(name, issuer.subject, key.public_key(), now - BEHIND_S, until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(key_id_of(issuer), critical=False)
    )
    if names:
        others = x509.SubjectAlternativeName([_general_name(each) for each in names])
        builder = builder.add_extension(others, critical=False)
    return Pair(_pem(builder.sign(issuer_key, hashes.SHA256())), _key_pem(key))


def _name(organization: str, common_name: str) -> x509.Name:
    """Returns a subject; X.509 bounds both of its parts by 64 characters."""
    parts = ((NameOID.ORGANIZATION_NAME, organization), (NameOID.COMMON_NAME, common_name))
    return x509.Name([x509.NameAttribute(oid, text[:64]) for oid, text in parts])


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _load(certificate_pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(certificate_pem)
    except ValueError as error:
        raise Corrupt(f"a certificate cannot be read: {error}") from error


def _load_key(key_pem: bytes) -> CertificateIssuerPrivateKeyTypes:
    try:
        key = serialization.load_pem_private_key(key_pem, None)
    except (ValueError, TypeError) as error:
        raise Corrupt(f"a key of the machines' certificates cannot be read: {error}") from error
    return key  # type: ignore[return-value]  # what signs nothing is refused where it is to sign


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Returns it as docker clients of all ages read it."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
