"""The root of trust: makes itself, signs nodes' certificates, checks join tokens. Time is an argument."""

from __future__ import annotations

import hmac

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from skep.rpc.certificates import UNIT_OF_ROLE, base36, ca_digest, parse_join_token
from skep.rpc.issuing import begun, key_id_of, key_usage
from skep.runtime.errors import Corrupt, Denied, Invalid

ROOT_YEARS_S = 20 * 365 * 24 * 3600.0  # SwarmKit's
_SECRET_LENGTH = 25


def new_root(now: float) -> tuple[bytes, bytes]:
    """Returns (certificate, private key) of a new root, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "swarm-ca")])
    certificate = (
        begun(name, name, key.public_key(), now, now + ROOT_YEARS_S)
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(key_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def new_secret(random_bytes: bytes) -> str:
    """Returns the secret half of a join token from 16 random bytes."""
    return base36(int.from_bytes(random_bytes, "big"), _SECRET_LENGTH)[-_SECRET_LENGTH:]


def join_token(ca_pem: bytes, secret: str) -> str:
    """Returns the whole token."""
    return f"SWMTKN-1-{ca_digest(ca_pem)}-{secret}"


def role_of_token(text: str, ca_pem: bytes, worker_secret: str, manager_secret: str) -> str:
    """Returns what the token lets one join as. Errors: `Denied`, in SwarmKit's words; `Invalid`."""
    token = parse_join_token(text)
    if token.digest == ca_digest(ca_pem):
        for role, secret in (("worker", worker_secret), ("manager", manager_secret)):
            if hmac.compare_digest(token.secret, secret):
                return role
    raise Denied(
        "rpc error: code = InvalidArgument desc = A valid join token is necessary to join this cluster"
    )


class Authority:
    """Signs with the root's key. Certificates of nodes carry `chain_pem`: see `manager.ca.rotation`."""

    def __init__(self, ca_cert_pem: bytes, ca_key_pem: bytes, chain_pem: bytes = b"") -> None:
        try:
            self._certificate = x509.load_pem_x509_certificate(ca_cert_pem)
            key = serialization.load_pem_private_key(ca_key_pem, None)
        except ValueError as error:
            raise Corrupt(f"the swarm's CA cannot be read: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise Corrupt("the swarm's CA key is of an unknown kind")
        self._key = key
        self._key_id = key_id_of(self._certificate)
        self.ca_pem = ca_cert_pem
        self.chain_pem = chain_pem

    def sign(
        self, request_pem: bytes, node_id: str, role: str, cluster_id: str, now: float, expiry_s: float
    ) -> bytes:
        """Returns a node certificate, PEM, for the key that the request proves possession of.

        The request's own subject does not count. Errors: `Invalid` for a bad request.
        """
        public_key = _key_of(request_pem)
        unit = UNIT_OF_ROLE[role]
        names = [node_id, unit] + (["swarm-ca"] if role == "manager" else [])
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, cluster_id),
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
                x509.NameAttribute(NameOID.COMMON_NAME, node_id),
            ]
        )
        certificate = (
            begun(subject, self._certificate.subject, public_key, now, now + expiry_s)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(signs=False, enciphers=True), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(self._key_id, critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM) + self.chain_pem

    def cross_sign(self, new_root_pem: bytes, now: float) -> bytes:
        """Returns the other root, PEM, as this root vouches for it: same name, same key."""
        new = x509.load_pem_x509_certificate(new_root_pem)
        try:
            key_id = new.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        except x509.ExtensionNotFound:
            key_id = x509.SubjectKeyIdentifier.from_public_key(new.public_key())
        until = min(new.not_valid_after_utc, self._certificate.not_valid_after_utc).timestamp()
        certificate = (
            begun(new.subject, self._certificate.subject, new.public_key(), now, until)
            # Below it may be the next root, signed by this one.
            .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
            .add_extension(key_usage(signs=True), critical=True)
            .add_extension(key_id, critical=False)
            .add_extension(self._key_id, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)


def _key_of(request_pem: bytes) -> ec.EllipticCurvePublicKey:
    """Returns the key that a request proves possession of: nodes make such keys, and what other kinds cost to
    check is for who sends them to say. Errors: `Invalid`."""
    try:
        request = x509.load_pem_x509_csr(request_pem)
        key = request.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise Invalid("the certificate request is not for an ECDSA key")
        is_signed = request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise Invalid(f"the certificate request cannot be read: {error}") from error
    if not is_signed:
        raise Invalid("the certificate request is not signed by its own key")
    return key
