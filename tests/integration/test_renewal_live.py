"""A node renews its certificate over its session, and shows the new one when it comes again. Real TLS."""

from __future__ import annotations

import asyncio
import random
import time

from skep.agent.executor.simulated import SimulatedExecutor, SimulatedSettings
from skep.daemon.agent_runner import AgentOwner, AgentParts, AgentRunner, AgentSettings, TlsLine
from skep.manager.ca.authority import Authority, new_root
from skep.manager.events import EventHub
from skep.manager.leader import Leader
from skep.manager.leader_context import LeaderContext
from skep.manager.manager_identity import ManagerIdentity
from skep.model.cluster import SECOND_NS, CAConfig, Cluster, SwarmSpec
from skep.model.node import Node, NodeDescription, NodeSpec
from skep.rpc.certificates import NodeKeys, new_key_and_request, validity_of
from skep.rpc.interfaces import Connection, Handler, Identity
from skep.rpc.link_server import LinkServer
from skep.rpc.tls import server_context
from skep.runtime.clock import SystemClock
from skep.runtime.ids import id_source
from skep.store import codec
from skep.store.election import Campaign
from skep.store.interfaces import Put
from skep.store.memory import MemoryMembers, MemoryState, MemoryStore
from tests.clusters import new_cluster

EXPIRY_S = 6.0


async def wait_for(what: str, seconds: float, test: object) -> None:
    assert callable(test)
    deadline = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.05)


async def test_a_node_renews_over_its_session() -> None:
    clock, rng = SystemClock(), random.Random(1)
    new_id = id_source(rng)
    ca, ca_key = new_root(clock.now())
    authority = Authority(ca, ca_key)
    node_id, manager_id = new_id(), new_id()

    def issue(name: str, role: str, expiry_s: float) -> NodeKeys:
        key, request = new_key_and_request()
        return NodeKeys(key, authority.sign(request, name, role, "c", clock.now(), expiry_s), ca)

    def sign(cluster: Cluster, node: Node, request_pem: bytes) -> bytes:
        return authority.sign(request_pem, node.id, node.spec.role, cluster.id, clock.now(), EXPIRY_S)

    leader = await started_leader(node_id, ca, sign)
    seen: list[Identity] = []

    def accept(connection: Connection) -> Handler:
        assert connection.identity is not None
        seen.append(connection.identity)
        return leader.sessions.open(connection)

    server = LinkServer()
    await server.listen("127.0.0.1", 0, server_context(issue(manager_id, "manager", 3600)), accept)
    line, renewed = TlsLine(issue(node_id, "worker", EXPIRY_S)), list[NodeKeys]()
    first_end = validity_of(line.keys.certificate_pem)[1]
    executor = SimulatedExecutor("n", SimulatedSettings(), rng, clock)
    address = f"127.0.0.1:{server.port}"
    parts, settings = AgentParts(executor, clock, rng), AgentSettings(node_id, "n", [address])
    agent = AgentRunner(settings, line, parts, AgentOwner())

    async def keep(keys: NodeKeys) -> None:
        renewed.append(keys)

    agent.start()
    agent.renew(keep)
    try:
        await wait_for("it renews before its certificate ends", EXPIRY_S, lambda: renewed)
        assert clock.now() < first_end
        assert len(seen) == 1, "the session goes on"
        leader.sessions.stop()
        leader = await started_leader(node_id, ca, sign)
        await wait_for("it comes again", 10, lambda: len(seen) > 1)
        assert seen[-1].node_id == node_id
        assert seen[-1].not_after > seen[0].not_after
    finally:
        await agent.stop()
        leader.sessions.stop()
        await server.close()


async def started_leader(node_id: str, ca: bytes, sign: object) -> Leader:
    clock, new_id = SystemClock(), id_source(random.Random(2))
    state = MemoryState()
    cluster = new_cluster(
        spec=SwarmSpec(ca_config=CAConfig(node_cert_expiry=int(EXPIRY_S * SECOND_NS))), ca_cert_pem=ca
    )
    node = Node(
        id=node_id,
        spec=NodeSpec(role="worker", availability="active"),
        description=NodeDescription(hostname="n"),
        created_at=0,
        updated_at=0,
    )
    state.write(
        [
            Put(codec.SCHEMA_KEY, str(codec.SCHEMA_VERSION).encode()),
            Put(codec.CLUSTER_KEY, codec.encode_object(cluster)),
            Put(codec.node_key(node_id), codec.encode_object(node)),
        ]
    )
    store = MemoryStore(state)
    leadership = await Campaign(store, codec.LEADER_KEY, "m").win()
    assert callable(sign)
    team = ManagerIdentity("m", MemoryMembers(store, state), probe)
    return await Leader.start(
        store, leadership, LeaderContext(clock, new_id, new_id, EventHub(clock), [], sign, team)
    )


async def probe(node_id: str) -> bool:
    return True
