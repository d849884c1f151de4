"""What a user asks of the swarm's root (`docker swarm ca --rotate`): read, checked, begun."""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from msgspec.structs import replace

from skep.manager.ca.authority import Authority, new_root
from skep.model.cluster import CAConfig, Cluster, RootRotation, SwarmSpec
from skep.rpc.certificates import is_issued_by
from skep.runtime.errors import Invalid

ROOT_LEFT_S = 365 * 24 * 3600.0  # SwarmKit's: a root must be good for a year yet
RSA_MIN_BITS = 2048  # SwarmKit's
_SECOND_CERTIFICATE = "the desired CA certificate cannot contain multiple certificates"
_NO_EXTERNAL = (
    "there must be at least one valid, reachable external CA corresponding to the desired CA certificate"
)


def with_root_wanted(cluster: Cluster, config: CAConfig, now: float) -> Cluster:
    """Returns the swarm with the change of root that the new settings ask for, if they do. One that runs is
    replaced; naming the present root ends it. Errors: `Invalid`, in SwarmKit's words where it has some."""
    if config.signing_ca_key and not config.signing_ca_cert:
        raise Invalid("if a signing CA key is provided, the signing CA cert must also be provided")
    if config.signing_ca_cert:
        cert_pem, key_pem = read_root(config.signing_ca_cert, config.signing_ca_key, now)
        if cert_pem == _normal(cluster.ca_cert_pem):
            return replace(cluster, ca_key_pem=key_pem, rotation=None)
        if _same_key(cert_pem, cluster.ca_cert_pem):
            raise Invalid("Cannot update to a cert with an identical key")
        if cluster.rotation is not None and cert_pem == cluster.rotation.ca_cert_pem:
            return cluster
    elif config.force_rotate != cluster.spec.ca_config.force_rotate:
        cert_pem, key_pem = new_root(now)
    else:
        return cluster
    cross_signed = Authority(cluster.ca_cert_pem, cluster.ca_key_pem).cross_sign(cert_pem, now)
    rotation = RootRotation(
        ca_cert_pem=cert_pem, ca_key_pem=key_pem, cross_signed_pem=cross_signed, started_at=now
    )
    return replace(cluster, rotation=rotation)


def without_root(spec: SwarmSpec) -> SwarmSpec:
    """Returns the settings as they are kept: the key is secret, and the certificate without it would ask for
    another change when the settings are written back."""
    return replace(spec, ca_config=replace(spec.ca_config, signing_ca_cert="", signing_ca_key=""))


def read_root(cert_text: str, key_text: str, now: float) -> tuple[bytes, bytes]:
    """Returns a user's root, (certificate, key), PEM. Errors: `Invalid` where it cannot be the swarm's."""
    try:
        certificate, *more = x509.load_pem_x509_certificates(cert_text.encode())
    except ValueError as error:
        raise Invalid("could not parse the desired CA certificate") from error
    if more:
        raise Invalid(_SECOND_CERTIFICATE)
    _check_certificate(certificate, now)
    if not key_text:
        raise Invalid(_NO_EXTERNAL)
    try:
        key = serialization.load_pem_private_key(key_text.encode(), None)
    except TypeError as error:
        raise Invalid("the CA key is encrypted: give it without a passphrase") from error
    except ValueError as error:
        raise Invalid("malformed private key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise Invalid("unsupported signature algorithm: the CA key must be an ECDSA or RSA key")
    if key.key_size < (RSA_MIN_BITS if isinstance(key, rsa.RSAPrivateKey) else ec.SECP256R1.key_size):
        raise Invalid(f"unsupported signature algorithm: the CA key of {key.key_size} bits is too short")
    if key.public_key() != certificate.public_key():
        raise Invalid("certificate key mismatch")
    return certificate.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _check_certificate(certificate: x509.Certificate, now: float) -> None:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        constraints = x509.BasicConstraints(ca=False, path_length=None)
    except ValueError as error:
        raise Invalid("could not parse the desired CA certificate") from error
    if not constraints.ca or not _may_sign(certificate):
        raise Invalid("the desired CA certificate is not the certificate of a CA")
    if not is_issued_by(certificate, certificate):
        raise Invalid(
            "error while validating Root CA Certificate: x509: certificate signed by unknown authority"
        )
    at = datetime.fromtimestamp(now, UTC)
    if not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
        raise Invalid(
            "error while validating Root CA Certificate: x509: certificate has expired or is not yet valid"
        )
    if certificate.not_valid_after_utc.timestamp() < now + ROOT_LEFT_S:
        raise Invalid("CA certificate expires too soon")
    if constraints.path_length == 0:
        raise Invalid(
            "the desired CA certificate must allow one intermediate certificate (pathlen:0 does not):"
            " it has to vouch for its successor one day"
        )


def _may_sign(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        return True


def _same_key(one_pem: bytes, other_pem: bytes) -> bool:
    one, other = x509.load_pem_x509_certificate(one_pem), x509.load_pem_x509_certificate(other_pem)
    return one.public_key() == other.public_key()


def _normal(pem: bytes) -> bytes:
    return x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.PEM)
