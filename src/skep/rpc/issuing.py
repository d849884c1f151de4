"""What certificates have alike, whoever issues them: the swarm's authority, or that of a user's machines."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from skep.rpc.certificates import BACKDATE_S


def begun(
    subject: x509.Name, issuer: x509.Name, key: CertificatePublicKeyTypes, now: float, until: float
) -> x509.CertificateBuilder:
    """Returns a certificate without extensions, valid from a little before `now`; seconds since the epoch."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_time(now - BACKDATE_S))
        .not_valid_after(_time(until))
    )


def key_usage(signs: bool, enciphers: bool = False) -> x509.KeyUsage:
    """Returns what a key is for: to sign certificates, or to be somebody."""
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=enciphers,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def key_id_of(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Returns the id by which the issuer names its own key: OpenSSL wants the two to agree. Some issuers
    (docker-machine's) do not name it."""
    try:
        own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(
            cast("ec.EllipticCurvePublicKey", issuer.public_key())
        )
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _time(at: float) -> datetime:
    return datetime.fromtimestamp(int(at), UTC)
