"""Who issued a node's certificate, and which root it trusts, as short digests that both ends compare."""

from __future__ import annotations

import functools
import hashlib

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from skep.rpc.certificates import BACKDATE_S, NodeKeys, ca_digest, validity_of
from skep.rpc.messages import HasTls, WantedTls
from skep.runtime.errors import Invalid

LIFE_PRECISION_S = 2.0  # certificates carry whole seconds, at both ends


def has_tls(keys: NodeKeys) -> HasTls:
    """Returns what a node has. Who issued a certificate is first in its chain; without one it is the root
    (both were checked when the node took them)."""
    return HasTls(issuer_digest(chain_of(keys.certificate_pem) or keys.ca_pem), ca_digest(keys.ca_pem))


@functools.lru_cache(maxsize=8)  # asked for whenever a node registers, at both ends
def issuer_digest(ca_pem: bytes) -> str:
    """Returns the digest of a root as an issuer: its name and its key, whoever signed it.

    Errors: `Invalid`.
    """
    try:
        issuer = x509.load_pem_x509_certificate(ca_pem)
    except ValueError as error:
        raise Invalid(f"not a certificate: {error}") from error
    key = issuer.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(issuer.subject.public_bytes() + key).hexdigest()


def is_wanted(keys: NodeKeys, wanted: WantedTls) -> bool:
    """True where the node's certificate is of the issuer, and for the time, that the leader wants."""
    not_before, not_after = validity_of(keys.certificate_pem)
    return (
        has_tls(keys).issuer == wanted.issuer
        and abs(not_after - not_before - BACKDATE_S - wanted.expiry_s) <= LIFE_PRECISION_S
    )


def chain_of(certificate_pem: bytes) -> bytes:
    """Returns what follows the node's own certificate, PEM; empty where nothing does."""
    _, _, rest = certificate_pem.partition(b"-----END CERTIFICATE-----")
    return rest.strip() + b"\n" if rest.strip() else b""
