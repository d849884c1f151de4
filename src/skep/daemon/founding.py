"""A new swarm: its root certificate, tokens, first node, and what the store begins with."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

from msgspec.structs import replace

from skep.api.interfaces import InitRequest
from skep.daemon.addresses import join_address
from skep.daemon.state import Membership
from skep.manager.allocator.subnets import DEFAULT_POOLS, DEFAULT_SIZE
from skep.manager.ca.authority import Authority, new_root, new_secret
from skep.manager.ca.rotation import signer
from skep.model.cluster import Cluster, EncryptionConfig
from skep.model.node import Node, NodeDescription, NodeSpec
from skep.rpc.certificates import NodeKeys, new_key_and_request
from skep.runtime.errors import Invalid, Unsupported
from skep.runtime.ids import NewId
from skep.store import codec
from skep.store.interfaces import Compare, Put, Txn
from skep.store.sizes import cut


def found_swarm(
    request: InitRequest,
    hostname: str,
    listen: tuple[str, int],
    advertise: tuple[str, int],
    now: float,
    new_id: NewId,
    unlock_key: str = "",
) -> tuple[Membership, NodeKeys, tuple[Put, ...]]:
    """Returns the first manager's membership and keys, and the first keys of the store.

    Managers lock themselves where there is an unlock key. Errors: `Invalid`, `Unsupported`.
    """
    if request.spec.ca_config.signing_ca_cert or request.spec.ca_config.signing_ca_key:
        raise Unsupported("begin with the swarm's own CA and replace it: docker swarm ca --rotate --ca-cert")
    cluster_id, node_id = new_id(), new_id()
    cluster = _new_cluster(request, cluster_id, now, unlock_key)
    node = manager_node(node_id, hostname, advertise, now, _availability(request))
    first = (
        Put(codec.SCHEMA_KEY, str(codec.SCHEMA_VERSION).encode()),
        Put(codec.INCARNATION_KEY, new_id().encode()),
        Put(codec.CLUSTER_KEY, codec.encode_object(cluster)),
        Put(codec.node_key(node_id), codec.encode_object(node)),
    )
    return *membership_of(node, cluster, listen), first


def _new_cluster(request: InitRequest, cluster_id: str, now: float, unlock_key: str) -> Cluster:
    pools = request.default_addr_pool
    ca_cert, ca_key = new_root(now)
    autolock = EncryptionConfig(auto_lock_managers=bool(unlock_key))
    return Cluster(
        id=cluster_id,
        spec=replace(request.spec, name="default", encryption_config=autolock),
        created_at=now,
        updated_at=now,
        ca_cert_pem=ca_cert,
        ca_key_pem=ca_key,
        worker_token_secret=new_secret(secrets.token_bytes(16)),
        manager_token_secret=new_secret(secrets.token_bytes(16)),
        unlock_key=unlock_key,
        default_addr_pool=list(DEFAULT_POOLS) if pools is None else pools,
        # As in Docker the size is that of the pools that were given with it, and shown as it was.
        subnet_size=DEFAULT_SIZE if pools is None else request.subnet_size,
        data_path_port=request.data_path_port or 4789,
    )


def manager_node(
    node_id: str, hostname: str, advertise: tuple[str, int], now: float, availability: str = "active"
) -> Node:
    """Returns a swarm's only manager."""
    return Node(
        id=node_id,
        spec=NodeSpec(role="manager", availability=availability),
        description=NodeDescription(hostname=hostname),
        created_at=now,
        updated_at=now,
        addr=advertise[0],
        manager_addr=join_address(*advertise),
    )


def membership_of(node: Node, cluster: Cluster, listen: tuple[str, int]) -> tuple[Membership, NodeKeys]:
    """Returns what a swarm's only manager has on its disk. Errors: `Corrupt` for a CA that cannot be read."""
    key_pem, csr = new_key_and_request()
    signs, expiry_s = signer(cluster), cluster.spec.node_cert_expiry_s
    authority = Authority(signs.ca_cert_pem, signs.ca_key_pem, signs.chain_pem)
    certificate = authority.sign(csr, node.id, "manager", cluster.id, node.created_at, expiry_s)
    membership = Membership(
        node_id=node.id,
        cluster_id=cluster.id,
        role="manager",
        managers=[node.manager_addr],
        listen=join_address(*listen),
        advertise=node.manager_addr,
        peers={node.id: node.manager_addr},
    )
    return membership, NodeKeys(key_pem, certificate, cluster.ca_cert_pem)


def first_txns(puts: tuple[Put, ...]) -> Iterator[Txn]:
    """Yields transactions that fill an empty store; the schema's key comes last and says that it is full."""
    empty = (Compare(codec.SCHEMA_KEY, 0),)
    for part in cut(sorted(puts, key=lambda put: put.key == codec.SCHEMA_KEY)):
        yield Txn(tuple(part), compares=empty)


def _availability(request: InitRequest) -> str:
    wanted = request.availability or "active"
    if wanted not in ("active", "pause", "drain"):
        raise Invalid(f'invalid Availability: "{wanted[:100]}"')
    return wanted
