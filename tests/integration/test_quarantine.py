"""A stored value that cannot be read costs nobody the lead: it stays, is listed, and nothing is decided about
its object; everything else is as it would be without it."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from skep.cli.store import unreadable
from skep.manager.dispatcher.assignments import Sent, complete
from skep.manager.loading import load
from skep.manager.upgrade import upgrade
from skep.model.container import ConfigReference, ContainerSpec, FileTarget, SecretReference
from skep.model.material import CONFIG, SECRET, ConfigSpec, Material
from skep.model.network import IPAMConfig, Network, NetworkSpec
from skep.model.node import DOWN, READY, Node, NodeDescription, NodeSpec, NodeStatus
from skep.model.service import RemovedService, Service, first_template
from skep.model.spec import ReplicatedMode, ServiceMode, ServiceSpec, TaskSpec
from skep.model.states import RUNNING, SHUTDOWN
from skep.model.task import Task, TaskStatus
from skep.runtime.errors import Corrupt
from skep.store import codec
from skep.store.backup import header_of, read, write
from skep.store.election import Campaign
from skep.store.interfaces import Fence, KeyValue, Put
from skep.store.memory import MemoryState, MemoryStore
from skep.store.seal import Sealer
from skep.store.sealed import SealedStore
from tests.api_process import Api, running_api

pytestmark = pytest.mark.timeout(60)

GARBAGE = b"\xc1 is nothing that msgpack has"
KEYS = {
    "node": codec.node_key("n2"),
    "tasks": codec.bucket_key("n1", "s1"),
    "service": codec.service_key("s1"),
    "removed": codec.removed_key("gone"),
    "network": codec.network_key("net"),
    "secret": codec.material_key(SECRET, "sec"),
    "config": codec.material_key(CONFIG, "con"),
    "attachment": codec.attachment_key("n1", "att"),
}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with capture_logs():
        yield


def service(service_id: str, name: str, container: ContainerSpec | None = None) -> list[Put]:
    spec = ServiceSpec(
        name=name,
        task_template=TaskSpec(container_spec=container or ContainerSpec(image="i")),
        mode=ServiceMode(replicated=ReplicatedMode(replicas=1)),
    )
    made = Service(id=service_id, spec=spec, templates=[first_template(spec)], created_at=1.0, updated_at=1.0)
    return [
        Put(codec.service_key(service_id), codec.encode_object(made)),
        Put(codec.service_name_key(name), service_id.encode()),
    ]


def tasks(node_id: str, service_id: str) -> Put:
    task = Task(f"{service_id}-{node_id}", service_id, node_id, 1, 1, RUNNING, 1.0, 1.0)
    return Put(codec.bucket_key(node_id, service_id), codec.encode_bucket([task]))


def node(node_id: str) -> Put:
    made = Node(
        id=node_id,
        spec=NodeSpec(),
        description=NodeDescription(hostname=f"host-{node_id}"),
        created_at=1.0,
        updated_at=1.0,
    )
    return Put(codec.node_key(node_id), codec.encode_object(made))


def material(kind: str, material_id: str) -> list[Put]:
    made = Material(
        kind=kind,
        id=material_id,
        spec=ConfigSpec(name=material_id, data=b"x"),
        created_at=1.0,
        updated_at=1.0,
    )
    return [
        Put(codec.material_key(kind, material_id), codec.encode_object(made)),
        Put(codec.material_name_key(kind, material_id), material_id.encode()),
    ]


def everything() -> list[Put]:
    """Two of most: services s1 and s2 with a task each, on n1 and n2; what uses a secret, a config."""
    target = FileTarget(name="f")
    net = Network(
        id="net",
        spec=NetworkSpec(name="net", driver="overlay"),
        pools=[IPAMConfig(subnet="10.9.0.0/24", gateway="10.9.0.1")],
        created_at=1.0,
        updated_at=1.0,
    )
    removed = RemovedService(
        id="gone", name="gone", templates=[first_template(ServiceSpec(name="gone"))], removed_at=1.0
    )
    with_secret = ContainerSpec(
        image="i", secrets=[SecretReference(secret_id="sec", secret_name="sec", file=target)]
    )
    with_config = ContainerSpec(
        image="i", configs=[ConfigReference(config_id="con", config_name="con", file=target)]
    )
    return [
        node("n1"),
        node("n2"),
        *service("s1", "one"),
        *service("s2", "two"),
        *service("s3", "three", with_secret),
        *service("s4", "four", with_config),
        tasks("n1", "s1"),
        tasks("n2", "s2"),
        tasks("n1", "s3"),
        tasks("n1", "s4"),
        tasks("n1", "gone"),
        Put(codec.removed_key("gone"), codec.encode_object(removed)),
        Put(codec.network_key("net"), codec.encode_object(net)),
        Put(codec.network_name_key("net"), b"net"),
        *material(SECRET, "sec"),
        *material(CONFIG, "con"),
    ]


def with_broken(key: str, value: bytes = GARBAGE) -> MemoryState:
    state = MemoryState()
    state.write([put for put in everything() if put.key != key] + [Put(key, value)])
    return state


@pytest.mark.parametrize("kind", KEYS)
async def test_the_rest_loads(kind: str) -> None:
    key = KEYS[kind]
    whole, view = await load(MemoryStore(with_broken("/skep/x"))), await load(MemoryStore(with_broken(key)))
    assert list(view.quarantine) == [key]
    assert key in view.quarantine[key].reason
    # What there is without it is there.
    kinds = {
        codec.is_node: "nodes",
        codec.is_service: "services",
        codec.is_bucket: "tasks",
        codec.is_removed: "removed",
        codec.is_network: "networks",
        codec.is_material: "materials",
    }
    for is_kind, name in kinds.items():
        missing = set(getattr(whole, name)) - set(getattr(view, name))
        allowed = {"tasks": {"s1-n1"}}.get(name, {codec.id_of(key)}) if is_kind(key) else set()
        assert missing <= allowed, name


async def test_values_that_can_be_read_and_make_no_sense() -> None:
    """An address that is none in a network's record crashed every leader, for ever."""
    net = Network(
        id="net",
        spec=NetworkSpec(name="net", driver="overlay"),
        pools=[IPAMConfig(subnet="no address", gateway="")],
        created_at=1.0,
        updated_at=1.0,
    )
    view = await load(MemoryStore(with_broken(KEYS["network"], codec.encode_object(net))))
    assert "net" not in view.networks
    assert list(view.quarantine) == [KEYS["network"]]
    other = next(put.value for put in service("s9", "nine") if codec.is_service(put.key))
    view = await load(MemoryStore(with_broken(KEYS["service"], other)))
    assert set(view.services) == {"s2", "s3", "s4"}
    bare = Service(id="s1", spec=ServiceSpec(name="one"), templates=[], created_at=1.0, updated_at=1.0)
    view = await load(MemoryStore(with_broken(KEYS["service"], codec.encode_object(bare))))
    assert view.is_aside("service", "s1")


@pytest.mark.parametrize(
    ("kind", "aside"),
    [
        ("node", ("node", "n2")),
        ("tasks", ("service", "s1")),
        ("service", ("service", "s1")),
        ("removed", ("service", "gone")),
        ("secret", ("service", "s3")),
        ("config", ("service", "s4")),
    ],
)
async def test_nothing_is_decided_about_it(kind: str, aside: tuple[str, str]) -> None:
    view = await load(MemoryStore(with_broken(KEYS[kind])))
    assert list(view.asides) == [aside]
    assert view.asides[aside].is_unreadable


@pytest.mark.parametrize("kind", ["tasks", "service", "removed"])
async def test_a_node_is_not_told_to_end_what_cannot_be_read(kind: str) -> None:
    view = await load(MemoryStore(with_broken(KEYS[kind])))
    broken, other = complete(view, "n1", Sent()), complete(view, "n2", Sent())
    assert not broken.complete, "the node would end what it is not told of"
    assert other.complete
    assert "s3-n1" in {task.id for task in broken.tasks}
    assert "s1-n1" not in {task.id for task in broken.tasks} or kind == "removed"


async def test_what_does_not_open_is_no_worse() -> None:
    kind = "service"
    state, sealer = MemoryState(), Sealer(b"k" * 32)
    state.write([Put(codec.SCHEMA_KEY, b"2")])
    for put in everything():
        sealed = sealer.seal(put.value, put.key) if codec.is_sealed_key(put.key) else put.value
        state.write([Put(put.key, sealed)])
    good = state.entries[KEYS[kind]].value
    state.entries[KEYS[kind]].value = good[:-1] + bytes([good[-1] ^ 1])
    view = await load(SealedStore(MemoryStore(state), sealer))
    assert list(view.quarantine) == [KEYS[kind]]
    assert "keys/data-key" in view.quarantine[KEYS[kind]].reason


async def test_an_upgrade_of_the_store_leaves_it_as_it_is() -> None:
    state, sealer = with_broken(KEYS["service"], b"\xc1S\x01 of another key"), Sealer(b"k" * 32)
    state.write([Put(codec.SCHEMA_KEY, b"1"), Put(codec.LEADER_KEY, b"m")])
    before = state.entries[KEYS["service"]].value
    fence = Fence(codec.LEADER_KEY, state.entries[codec.LEADER_KEY].created)
    await upgrade(SealedStore(MemoryStore(state), sealer), fence)
    assert state.entries[codec.SCHEMA_KEY].value == b"2"
    assert state.entries[KEYS["service"]].value == before


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (codec.CLUSTER_KEY, GARBAGE, "the swarm's own record cannot be read.*skep store get.*backup"),
        (codec.SCHEMA_KEY, b"two", "/skep/schema cannot be read: it holds no number"),
    ],
)
async def test_what_nobody_can_lead_without_says_what_to_do(key: str, value: bytes, said: str) -> None:
    with pytest.raises(Corrupt, match=said):
        await load(MemoryStore(with_broken(key, value)))
    pairs = [KeyValue(key, value, 1), KeyValue(KEYS["node"], GARBAGE, 2)]
    assert set(await unreadable(pairs)) == {key, KEYS["node"]}, "skep store ls --quarantined"


# With a leader


def put_in(state: MemoryState, *puts: Put) -> None:
    state.write(list(puts))


async def decided(api: Api) -> None:
    """Waits until the leader has looked at everything, some times."""
    for _ in range(5):
        api.leader.reconciler.enqueue_everything()
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("kind", KEYS)
async def test_a_leader_leads_and_leaves_it_alone(kind: str) -> None:
    key = KEYS[kind]

    def broken(state: MemoryState) -> None:
        put_in(state, *(put for put in everything() if put.key != key), Put(key, GARBAGE))

    async with running_api(prepare=broken) as api:
        view = api.leader.view
        view.put_node_status("n1", NodeStatus(READY))
        view.put_node_status("n2", NodeStatus(DOWN if kind == "node" else READY))
        stored = {task.id: task for task in view.tasks.values()}
        await decided(api)
        assert not api.leading.done()
        assert api.state.entries[key].value == GARBAGE, "untouched"
        about = {"tasks": "s1", "service": "s1", "removed": "gone", "secret": "s3", "config": "s4"}.get(kind)
        for task in stored.values():
            if task.service_id == about or (kind == "node" and task.node_id == "n2"):
                assert view.tasks[task.id] == task, "its tasks are as they were"
        assert not [t for t in view.tasks.values() if t.service_id == about and t.id not in stored]

        (listed,) = (await api.ask("GET", "/skep/v1/asides")).json["Quarantine"]
        assert listed["Key"] == key
        warnings = (await api.ask("GET", "/v1.51/info")).json["Warnings"]
        assert any("1 stored values cannot be read" in each for each in warnings)
        for path in ("nodes", "services", "tasks", "networks", "secrets", "configs"):
            assert (await api.ask("GET", f"/v1.51/{path}")).status == 200, path


async def test_names_stay_taken() -> None:
    keys = (KEYS["service"], KEYS["network"], KEYS["secret"])

    def broken(state: MemoryState) -> None:
        put_in(state, *(put for put in everything() if put.key not in keys), *(Put(k, GARBAGE) for k in keys))

    async with running_api(prepare=broken) as api:
        spec: dict[str, Any] = {"Name": "one", "TaskTemplate": {"ContainerSpec": {"Image": "i"}}}
        answer = await api.ask("POST", "/v1.51/services/create", spec)
        assert (answer.status, "already exists" in answer.message) == (409, True)
        answer = await api.ask("POST", "/v1.51/secrets/create", {"Name": "sec", "Data": "eA=="})
        assert (answer.status, "already exists" in answer.message) == (409, True)
        answer = await api.ask("POST", "/v1.51/networks/create", {"Name": "other", "Driver": "overlay"})
        assert answer.status == 409
        assert "which subnets are free" in answer.message
        assert (await api.ask("POST", "/v1.51/services/create", spec | {"Name": "new"})).status == 201


async def test_a_node_whose_record_cannot_be_read_can_be_removed() -> None:
    def broken(state: MemoryState) -> None:
        put_in(state, *(put for put in everything() if put.key != KEYS["node"]), Put(KEYS["node"], GARBAGE))

    async with running_api(prepare=broken) as api:
        (shown,) = [n for n in (await api.ask("GET", "/v1.51/nodes")).json if n["ID"] == "n2"]
        assert KEYS["node"] in shown["Status"]["Message"]
        update = {"Role": "worker", "Availability": "drain"}
        answer = await api.ask("POST", f"/v1.51/nodes/n2/update?version={shown['Version']['Index']}", update)
        assert answer.status == 409
        assert api.state.entries[KEYS["node"]].value == GARBAGE
        assert (await api.ask("DELETE", "/v1.51/nodes/n2?force=true")).status == 200
        assert KEYS["node"] not in api.state.entries
        assert not api.leader.view.asides
        assert (await api.ask("GET", "/skep/v1/asides")).json == {"Asides": [], "Quarantine": []}


async def test_a_lead_that_nobody_can_read_is_taken() -> None:
    state = MemoryState()
    state.write([Put(codec.LEADER_KEY, b"\xff\xfe")])
    leadership = await Campaign(MemoryStore(state), codec.LEADER_KEY, "m").win()
    assert leadership.is_sure
    await leadership.resign()


async def test_a_service_that_cannot_be_read_is_said_to_be_so() -> None:
    def broken(state: MemoryState) -> None:
        put_in(state, *everything(), Put(KEYS["service"], GARBAGE))

    async with running_api(prepare=broken) as api:
        for path in ("/v1.51/services/s1", "/skep/v1/services/s1/explain"):
            answer = await api.ask("GET", path)
            assert answer.status == 404
            assert KEYS["service"] in answer.message


async def test_a_service_of_which_a_part_cannot_be_read_can_be_removed() -> None:
    key = codec.bucket_key("n1", "s1")

    def broken(state: MemoryState) -> None:
        put_in(state, *everything(), tasks("n2", "s1"), Put(key, GARBAGE))

    async with running_api(prepare=broken) as api:
        view = api.leader.view
        view.put_node_status("n2", NodeStatus(READY))
        assert (await api.ask("DELETE", "/v1.51/services/one")).status == 200
        view.put_status(view.tasks["s1-n2"], TaskStatus(SHUTDOWN, 2.0))
        api.leader.reconciler.enqueue_slot("s1", 1)
        async with asyncio.timeout(10):
            while "s1-n2" in view.tasks or "s1" in view.removed:
                await asyncio.sleep(0.02)
        assert api.state.entries[key].value == GARBAGE


async def test_a_backup_is_taken_all_the_same() -> None:
    pairs, _ = await MemoryStore(with_broken(KEYS["tasks"])).load(codec.PREFIX)
    header = header_of(pairs, "0", "c", 1.0)
    assert (header.services, header.tasks, header.nodes) == (4, 4, 2)
    pairs.append(KeyValue(codec.CLUSTER_KEY, b"x", 1))  # without it a backup is of no swarm
    kept = read(io.BytesIO(b"".join(write(header, pairs)))).pairs
    assert Put(KEYS["tasks"], GARBAGE) in kept
