"""What a simulated swarm begins with: its store, and what is on its machines' disks."""

from __future__ import annotations

from skep.manager.control.autolock import unlock_key
from skep.model.cluster import SECOND_NS, CAConfig, Cluster, EncryptionConfig, SwarmSpec
from skep.model.node import Node, NodeDescription, NodeSpec
from skep.sim.certificates import ISSUED_S, SWARM, first_keys, root
from skep.sim.history import History
from skep.sim.loop import EPOCH_S, START_S
from skep.sim.options import EXPIRY_S, Options
from skep.sim.sealing import FIRST_KEY
from skep.sim.workload import value_of
from skep.sim.world import World
from skep.store import codec
from skep.store.interfaces import Put
from skep.store.seal import KEY_BYTES


def swarm_spec(options: Options) -> SwarmSpec:
    locks = EncryptionConfig(auto_lock_managers=options.locks)
    config = CAConfig(node_cert_expiry=EXPIRY_S * SECOND_NS) if options.expires else CAConfig()
    return SwarmSpec(encryption_config=locks, ca_config=config)


def write_first_state(world: World, history: History, options: Options) -> None:
    """Writes it, and tells the history of the nodes."""
    ca_cert_pem, ca_key_pem = root()
    cluster = Cluster(
        id=SWARM,
        spec=swarm_spec(options),
        created_at=EPOCH_S,
        updated_at=EPOCH_S,
        ca_cert_pem=ca_cert_pem,
        ca_key_pem=ca_key_pem,
        worker_token_secret="",
        manager_token_secret="",
        unlock_key=unlock_key(b"1" * KEY_BYTES) if options.locks else "",
    )
    puts = [
        Put(codec.SCHEMA_KEY, str(codec.SCHEMA_VERSION).encode()),
        Put(codec.INCARNATION_KEY, b"sim"),
        Put(codec.CLUSTER_KEY, codec.encode_object(cluster)),
    ]
    for host in world.present():
        role = host.membership.role
        issued_s = EPOCH_S + START_S if options.expires else ISSUED_S
        keys = first_keys(host.node_id, role, issued_s, cluster.spec.node_cert_expiry_s)
        host.write_first(keys, FIRST_KEY if role == "manager" else b"")
        node = Node(
            id=host.node_id,
            spec=NodeSpec(role=role, availability="active"),
            description=NodeDescription(hostname=host.name),
            created_at=EPOCH_S,
            updated_at=EPOCH_S,
            manager_addr=host.address if role == "manager" else "",
        )
        puts.append(Put(codec.node_key(node.id), codec.encode_object(node)))
        history.done(history.begin(f"node {node.id}", value_of(node.spec)))
    world.etcd.state.write(puts)
    world.etcd.found([host.node_id for host in world.managers()])
