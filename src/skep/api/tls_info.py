"""The swarm's root of trust as Docker shows it (`TLSInfo`)."""

from __future__ import annotations

import base64
import functools

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from skep.model.cluster import Cluster
from skep.model.node import NodeTLSInfo


def tls_info(cluster: Cluster | None) -> NodeTLSInfo | None:
    """Returns root certificate, subject and public key (base64 of the raw DER)."""
    return _of(cluster.ca_cert_pem) if cluster is not None else None


@functools.lru_cache(maxsize=4)
def _of(ca_cert_pem: bytes) -> NodeTLSInfo:
    certificate = x509.load_pem_x509_certificate(ca_cert_pem)
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return NodeTLSInfo(
        trust_root=ca_cert_pem.decode(),
        cert_issuer_subject=base64.b64encode(certificate.subject.public_bytes()).decode(),
        cert_issuer_public_key=base64.b64encode(key).decode(),
    )
