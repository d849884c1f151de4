"""What the nodes of a simulated swarm begin with: real certificates, of one root."""

from __future__ import annotations

import functools

from skep.manager.ca.authority import Authority, new_root
from skep.rpc.certificates import NodeKeys, new_key_and_request
from skep.sim.loop import EPOCH_S

SWARM = "sim"
ISSUED_S = EPOCH_S - 30 * 86400  # of what a run begins with: clocks that jump by hours stay within its life


@functools.cache
def root() -> tuple[bytes, bytes]:
    """Returns the certificate and key of the swarm's root: one for all runs of a process."""
    return new_root(ISSUED_S)


def first_keys(node_id: str, role: str, issued_s: float, expiry_s: float) -> NodeKeys:
    """Returns what a node begins with."""
    certificate, key = root()
    key_pem, request_pem = new_key_and_request()
    signed = Authority(certificate, key).sign(request_pem, node_id, role, SWARM, issued_s, expiry_s)
    return NodeKeys(key_pem, signed, certificate)
