"""Node certificates and join tokens, the parts that agents need too. Time is an argument.

A certificate says who a node is: CN its id, OU its role (`swarm-worker`, `swarm-manager`), O the swarm's
id; a join token pins the digest of the root certificate. All as SwarmKit has it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AttributeOID, NameOID
from msgspec import Struct

from skep.rpc.interfaces import Identity
from skep.runtime.errors import Corrupt, Denied, Invalid

ROLE_UNITS = {"swarm-worker": "worker", "swarm-manager": "manager"}
UNIT_OF_ROLE = {role: unit for unit, role in ROLE_UNITS.items()}
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_TOKEN = re.compile(r"^SWMTKN-1-([0-9a-z]{50})-([0-9a-z]{25})$")
_DIGEST_LENGTH = 50

_FILES = ("swarm-node.key", "swarm-node.crt", "swarm-root-ca.crt")
_NEXT = ".next"

BACKDATE_S = 3600.0  # SwarmKit's: nodes' clocks may be an hour behind


class NodeKeys(Struct, frozen=True):
    """What a node holds: its private key, its certificate, the swarm's root certificate; all PEM.

    After the certificate may come the one of its issuer, signed by the root before (`manager.ca.rotation`).
    """

    key_pem: bytes
    certificate_pem: bytes
    ca_pem: bytes

    def __repr__(self) -> str:
        """Whatever prints it (a log, a trace) does not show the key."""
        return "NodeKeys(…)"


class JoinToken(Struct, frozen=True):
    """`digest` pins the root certificate, `secret` says as what one may join."""

    digest: str
    secret: str

    @property
    def digest_hex(self) -> str:
        """The digest as others show it: SHA-256 in hex."""
        return f"{int(self.digest, 36):064x}"

    def __str__(self) -> str:
        return f"SWMTKN-1-{self.digest}-{self.secret}"


def parse_join_token(text: str) -> JoinToken:
    """Errors: `Invalid`, in Docker's words."""
    found = _TOKEN.match(text.strip())
    if found is None:
        raise Invalid("invalid join token")
    if int(found[1], 36) >> 256:
        raise Invalid("invalid checksum digest length")
    return JoinToken(found[1], found[2])


@functools.lru_cache(maxsize=4)  # asked for at every enrolment
def ca_digest(ca_pem: bytes) -> str:
    """Returns the digest of a root certificate as join tokens carry it: SHA-256 in base 36."""
    return base36(int.from_bytes(hashlib.sha256(ca_pem).digest(), "big"), _DIGEST_LENGTH)


def base36(number: int, length: int) -> str:
    digits = []
    while number:
        number, rest = divmod(number, 36)
        digits.append(_DIGITS[rest])
    return "".join(reversed(digits)).rjust(length, "0")


def new_key_and_request(nonce: str = "") -> tuple[bytes, bytes]:
    """Returns (private key, certificate request), PEM; the request proves possession of the key, and that of
    now where it has the `nonce` that who signs it has given."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if nonce:
        request = request.add_attribute(AttributeOID.CHALLENGE_PASSWORD, nonce.encode())
    return (
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM),
    )


def nonce_of(request_pem: bytes) -> str:
    """Returns the nonce that a request has; an empty text where it has none, or is none."""
    try:
        request = x509.load_pem_x509_csr(request_pem)
        found = request.attributes.get_attribute_for_oid(AttributeOID.CHALLENGE_PASSWORD)
        return found.value.decode()
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, x509.AttributeNotFound):
        return ""


def identity_of(der_or_pem: bytes) -> Identity:
    """Returns who a certificate names. Errors: `Invalid` for what is no node certificate."""
    try:
        if der_or_pem.startswith(b"-----"):
            certificate = x509.load_pem_x509_certificate(der_or_pem)
        else:
            certificate = x509.load_der_x509_certificate(der_or_pem)
        subject = certificate.subject
        node_id, unit, cluster_id = (
            str(subject.get_attributes_for_oid(oid)[0].value)
            for oid in (
                NameOID.COMMON_NAME,
                NameOID.ORGANIZATIONAL_UNIT_NAME,
                NameOID.ORGANIZATION_NAME,
            )
        )
        role = ROLE_UNITS[unit]
    except (ValueError, IndexError, KeyError) as error:
        raise Invalid(f"not a certificate of a swarm's node: {error}") from error
    return Identity(node_id, role, cluster_id, certificate.not_valid_after_utc.timestamp())


def validity_of(certificate_pem: bytes) -> tuple[float, float]:
    """Returns from when and until when a certificate is valid, epoch seconds. Errors: `Invalid`."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
    except ValueError as error:
        raise Invalid(f"not a certificate: {error}") from error
    return certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()


def der_of(certificate_pem: bytes) -> bytes:
    """Returns the first certificate. Errors: `Denied`, as of anything a peer sends that is none."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
    except ValueError as error:
        raise Denied(f"the certificate cannot be read: {error}") from error
    return certificate.public_bytes(serialization.Encoding.DER)


def is_key_of(key_pem: bytes, certificate_pem: bytes) -> bool:
    """True where the private key is the certificate's."""
    public = serialization.load_pem_private_key(key_pem, None).public_key()
    return public == x509.load_pem_x509_certificate(certificate_pem).public_key()


def verify_issued_by(ca_pem: bytes, der: bytes, now: float, chain_pem: bytes = b"") -> Identity:
    """Returns who the certificate names if it is valid and the root signed it, or signed an issuer in the
    chain. Errors: `Denied`."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        root = x509.load_pem_x509_certificate(ca_pem)
        chain = x509.load_pem_x509_certificates(chain_pem) if chain_pem else []
    except ValueError as error:
        raise Denied(f"the certificate cannot be read: {error}") from error
    issuers = [root, *(c for c in chain if _is_ca(c) and is_issued_by(c, root) and _is_valid(c, now))]
    if not any(is_issued_by(certificate, issuer) for issuer in issuers):
        raise Denied("the manager's certificate was not issued by the swarm's CA")
    identity = identity_of(der)
    if not _is_valid(certificate, now):
        raise Denied(
            f"the certificate of node {identity.node_id} is not valid now: check both machines' clocks"
        )
    return identity


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """True where the issuer's key signed the certificate and the names fit."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def is_in_time(certificate_pem: bytes, now: float) -> bool:
    """True within the certificate's life (seconds since the epoch)."""
    return _is_valid(x509.load_pem_x509_certificate(certificate_pem), now)


def _is_valid(certificate: x509.Certificate, now: float) -> bool:
    not_before, not_after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return not_before.timestamp() <= now <= not_after.timestamp()


def save_keys(directory: Path, keys: NodeKeys) -> None:
    """Writes the node's files, each whole or not at all. Errors: `Invalid` (disk full, no permission)."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A key and a certificate that do not belong together would be the node's end: all are written
        # beside, the key first, and then renamed, the key first: by the key one tells how far a crash got.
        _finish(directory)
        for name, data in zip(_FILES, (keys.key_pem, keys.certificate_pem, keys.ca_pem), strict=True):
            write_file(directory / (name + _NEXT), data)
        _rename(directory)
    except OSError as error:
        raise Invalid(f"the node's certificate cannot be stored: {error}") from error


def _finish(directory: Path) -> None:
    """Ends a change of keys that a crash cut short."""
    if _is_renaming(directory):
        _rename(directory)
    else:
        for name in reversed(_FILES):  # the key last: without it the others would count
            (directory / (name + _NEXT)).unlink(missing_ok=True)


def _is_renaming(directory: Path) -> bool:
    """True where what is written beside is whole, and counts: the new key is in its place."""
    return not (directory / (_FILES[0] + _NEXT)).exists()


def _rename(directory: Path) -> None:
    for name in _FILES:
        with contextlib.suppress(FileNotFoundError):
            (directory / (name + _NEXT)).replace(directory / name)


def load_keys(directory: Path) -> NodeKeys:
    """Returns the keys that count, also where a crash cut a change of them short. Writes nothing: who reads
    may not be who changes them. Errors: `Corrupt`, which names the file."""
    parts = {}
    is_renaming = _is_renaming(directory)
    for name in _FILES:
        path = directory / (name + _NEXT)
        if not is_renaming or not path.exists():
            path = directory / name
        try:
            parts[name] = path.read_bytes()
        except OSError as error:
            raise Corrupt(f"the node's certificate cannot be read: {error}") from error
        if b"-----END" not in parts[name]:
            raise Corrupt(f"{path} is truncated: restore it, or leave the swarm (--force) and join again")
    keys = NodeKeys(parts["swarm-node.key"], parts["swarm-node.crt"], parts["swarm-root-ca.crt"])
    identity_of(keys.certificate_pem)
    return keys


def write_file(path: Path, data: bytes) -> None:
    """Writes atomically: a crash leaves the old file or the new one, and only the owner may read it."""
    temporary = path.with_suffix(path.suffix + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
