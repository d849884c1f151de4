"""The change of the swarm's root, decided: who signs meanwhile, what nodes should have, when it is over.

The new root is signed by the old root's key too, and every certificate that the new one issues carries that
(`RootRotation.cross_signed_pem`). So nodes that trust the old root, and nodes that trust the new one, accept
it alike: trust can change node by node while all of them stay connected. docs/adr/0010.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from skep.model.cluster import Cluster
from skep.model.node import NodeTls
from skep.rpc.messages import WantedTls
from skep.rpc.trust import issuer_digest

RENEWALS_PER_S = 500  # a renewal costs the leader about a millisecond, and it has other work
SPREAD_MIN_S = 0.2


class Signer(Struct, frozen=True):
    """What certificates are signed with, and what they carry besides."""

    ca_cert_pem: bytes
    ca_key_pem: bytes
    chain_pem: bytes


class Unfinished(Struct, frozen=True):
    """Nodes that hold no certificate of the new root yet, or have not said so to this leader."""

    nodes: tuple[str, ...]


class Finished(Struct, frozen=True):
    """Every node has a certificate of the new root."""


def signer(cluster: Cluster) -> Signer:
    """Returns the new root while the swarm changes to it, else the root.

    The chain then also leads back to the root before: a node may have been away since that was given up.
    At the end no node can be that far behind, for each has renewed its certificate under the present root.
    """
    rotation = cluster.rotation
    if rotation is not None:
        chain = rotation.cross_signed_pem + cluster.ca_chain_pem
        return Signer(rotation.ca_cert_pem, rotation.ca_key_pem, chain)
    return Signer(cluster.ca_cert_pem, cluster.ca_key_pem, cluster.ca_chain_pem)


def decide(
    cluster: Cluster, nodes: Iterable[str], node_tls: Mapping[str, NodeTls]
) -> Unfinished | Finished | None:
    """Returns whether the change of the root may end; None where there is none.

    A node that is down counts: it could not come back once the root before is gone (SwarmKit's rule).
    """
    if cluster.rotation is None:
        return None
    issuer = issuer_digest(cluster.rotation.ca_cert_pem)
    missing = tuple(node for node in nodes if node not in node_tls or node_tls[node].issuer != issuer)
    return Unfinished(missing) if missing else Finished()


def finished(cluster: Cluster, now: float, worker_secret: str, manager_secret: str) -> Cluster:
    """Returns the swarm with its new root; tokens of before pin the old one and end with it."""
    rotation = cluster.rotation
    assert rotation is not None
    return replace(
        cluster,
        ca_cert_pem=rotation.ca_cert_pem,
        ca_key_pem=rotation.ca_key_pem,
        ca_chain_pem=rotation.cross_signed_pem,
        rotation=None,
        worker_token_secret=worker_secret,
        manager_token_secret=manager_secret,
        updated_at=now,
    )


def wanted_tls(cluster: Cluster, node_count: int) -> WantedTls:
    """Returns what every node of the swarm should have."""
    return WantedTls(
        cluster.ca_cert_pem,
        issuer_digest(signer(cluster).ca_cert_pem),
        cluster.spec.node_cert_expiry_s,
        max(SPREAD_MIN_S, node_count / RENEWALS_PER_S),
    )
