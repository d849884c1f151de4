"""Signs certificates as the cluster now wants them signed."""

from __future__ import annotations

from skep.manager.ca.authority import Authority
from skep.manager.ca.rotation import signer
from skep.model.cluster import Cluster
from skep.runtime.clock import Clock


class Issuer:
    """Of one manager."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._authority: Authority | None = None

    def certificate(self, cluster: Cluster, node_id: str, role: str, request_pem: bytes) -> bytes:
        """Returns the certificate of a node in that role. Errors: as `Authority.sign`."""
        now, expiry_s = self._clock.now(), cluster.spec.node_cert_expiry_s
        return self._authority_of(cluster).sign(request_pem, node_id, role, cluster.id, now, expiry_s)

    def _authority_of(self, cluster: Cluster) -> Authority:
        """Parsing the CA's key takes as long as signing: it is done once."""
        signs, known = signer(cluster), self._authority
        if known is None or (known.ca_pem, known.chain_pem) != (signs.ca_cert_pem, signs.chain_pem):
            known = self._authority = Authority(signs.ca_cert_pem, signs.ca_key_pem, signs.chain_pem)
        return known
