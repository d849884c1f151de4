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
    pools = request.default_addr_pool
    cluster_id, node_id = new_id(), new_id()
    ca_cert, ca_key = new_root(now)
    autolock = EncryptionConfig(auto_lock_managers=bool(unlock_key))
    cluster = Cluster(
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
    key_pem, csr = new_key_and_request()
    authority = Authority(ca_cert, ca_key)
    certificate = authority.sign(csr, node_id, "manager", cluster_id, now, cluster.spec.node_cert_expiry_s)
    address = join_address(*advertise)
    node = Node(
        id=node_id,
        spec=NodeSpec(role="manager", availability=_availability(request)),
        description=NodeDescription(hostname=hostname),
        created_at=now,
        updated_at=now,
        addr=advertise[0],
        manager_addr=address,
    )
    first = (
        Put(codec.SCHEMA_KEY, str(codec.SCHEMA_VERSION).encode()),
        Put(codec.INCARNATION_KEY, new_id().encode()),
        Put(codec.CLUSTER_KEY, codec.encode_object(cluster)),
        Put(codec.node_key(node_id), codec.encode_object(node)),
    )
    membership = Membership(
        node_id=node_id,
        cluster_id=cluster_id,
        role="manager",
        managers=[address],
        listen=join_address(*listen),
        advertise=address,
        peers={node_id: address},
    )
    return membership, NodeKeys(key_pem, certificate, ca_cert), first


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
