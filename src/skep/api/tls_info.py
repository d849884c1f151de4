"""Roots and issuers as Docker shows them (`TLSInfo`): of the swarm what it wants, of a node what it has."""

from __future__ import annotations

import base64
import functools

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from skep.model.cluster import Cluster
from skep.model.node import NodeTLSInfo
from skep.rpc.certificates import ca_digest
from skep.rpc.trust import issuer_digest
from skep.store.view import View


def tls_info(cluster: Cluster | None) -> NodeTLSInfo | None:
    """Returns the root, and name and key (base64 of the DER) of who issues certificates: while the root is
    changed that is the new one already."""
    if cluster is None:
        return None
    issuer = cluster.rotation.ca_cert_pem if cluster.rotation is not None else cluster.ca_cert_pem
    return _info(cluster.ca_cert_pem, issuer)


def node_tls_info(view: View, node_id: str) -> NodeTLSInfo | None:
    """Returns what the node has said; of a silent one it is known that it trusts the root.

    What is neither the swarm's root nor the one it changes to is left empty.
    """
    cluster = view.cluster
    if cluster is None:
        return None
    said = view.node_tls.get(node_id)
    if said is None:
        return _info(cluster.ca_cert_pem, cluster.ca_cert_pem)
    roots = [cluster.ca_cert_pem, *([cluster.rotation.ca_cert_pem] if cluster.rotation is not None else [])]
    issuer = next((root for root in roots if issuer_digest(root) == said.issuer), b"")
    return _info(next((root for root in roots if ca_digest(root) == said.trust), b""), issuer)


@functools.lru_cache(maxsize=16)
def _info(root_pem: bytes, issuer_pem: bytes) -> NodeTLSInfo:
    if not issuer_pem:
        return NodeTLSInfo(trust_root=root_pem.decode())
    issuer = x509.load_pem_x509_certificate(issuer_pem)
    key = issuer.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return NodeTLSInfo(
        trust_root=root_pem.decode(),
        cert_issuer_subject=base64.b64encode(issuer.subject.public_bytes()).decode(),
        cert_issuer_public_key=base64.b64encode(key).decode(),
    )
