"""What users do meanwhile, drawn from a seed: services come, grow, change and go; nodes are drained, made
managers and workers, leave and join."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from skep.manager.leader import Leader
from skep.model.container import (
    ContainerSpec,
    NetworkAttachmentConfig,
    PortConfig,
    Reservation,
    ResourceRequirements,
    RestartPolicy,
)
from skep.model.generic import parse_resource
from skep.model.network import OVERLAY, NetworkSpec
from skep.model.node import Node, NodeDescription, NodeSpec
from skep.model.service import Service
from skep.model.spec import (
    EndpointSpec,
    GlobalJobMode,
    GlobalMode,
    ReplicatedJobMode,
    ReplicatedMode,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
)
from skep.runtime.errors import OutcomeUnknown, SkepError
from skep.sim.history import History
from skep.sim.hosts import Host

ACTS = {
    "create": 3,
    "scale": 3,
    "update": 2,
    "remove": 1,
    "drain": 1,
    "activate": 1,
    "promote": 2,
    "demote": 2,
}
SERVICES_MAX = 6
REPLICAS_MAX = 30
MANAGERS_MIN, MANAGERS_MAX = 2, 5  # fewer are had too while some are demoted
PORTS = (8000, 8001)  # few: services must compete for them
PORT_REPLICAS_MAX = 2
JOBS_AT_ONCE_MAX = 4
JOB_MAX_S = 4
NETWORKS_MAX = 3
NETWORK_RATE = 0.15  # of what users do
CALL_S = 10.0  # a user's patience
SECOND_NS = 1_000_000_000

T = TypeVar("T")


def value_of(spec: ServiceSpec | NodeSpec) -> Hashable:
    """Returns what a history compares."""
    return msgspec.json.encode(spec)


class Workload:
    """Errors of the control API are the user's to bear: `step` raises them. `leaves` says of a node that its
    machine leaves, or has left: nobody makes it a manager then."""

    def __init__(self, rng: random.Random, history: History, leaves: Callable[[str], bool]) -> None:
        self._rng = rng
        self._history = history
        self._leaves = leaves
        self._made = self._made_networks = 0
        self._networks_rng = random.Random(rng.getrandbits(64))
        self._unanswered: dict[asyncio.Task[Any], tuple[Host, int, str]] = {}

    async def step(self, host: Host, leader: Leader) -> str:
        """Does one thing by that host's leader and returns what. Errors: `SkepError`."""
        services = list(leader.view.services.values())
        act = self._rng.choices(list(ACTS), list(ACTS.values()))[0]
        if self._networks_rng.random() < NETWORK_RATE:
            return await self._network(leader, host)
        if act in ("drain", "activate"):
            return await self._availability(host, leader, "active" if act == "activate" else "drain")
        if act in ("promote", "demote"):
            return await self._role(host, leader, "manager" if act == "promote" else "worker")
        if not services or (act == "create" and len(services) < SERVICES_MAX):
            return await self._create(host, leader)
        service = self._rng.choice(services)
        if act == "remove":
            name = service.spec.name
            await self._call(host, leader.services.remove(service.id), f"service {name}", None, False)
            return f"remove {name}"
        if act == "update":
            return await self._update(host, leader, service)
        return await self._scale(host, leader, service)

    def waits_for(self) -> str:
        """Returns what a manager that still lives has not answered; an empty text where there is nothing."""
        for work, (host, life, key) in self._unanswered.items():
            if not work.done() and host.is_up and host.lives == life:
                return f"{host.name} never answered a user's write of {key}"
        return ""

    async def add_node(self, host: Host, leader: Leader, node_id: str, name: str, role: str) -> None:
        """A new machine is enrolled. Errors: `SkepError`."""
        spec = NodeSpec(role=role, availability="active")
        adding = leader.nodes.add(node_id, role, "active", NodeDescription(hostname=name), "")
        await self._call(host, adding, f"node {node_id}", value_of(spec))

    async def change_node(self, host: Host, leader: Leader, node: Node, spec: NodeSpec) -> None:
        """Errors: `SkepError`."""
        change = leader.nodes.update(node.id, node.version, spec)
        await self._call(host, change, f"node {node.id}", value_of(spec))

    async def remove_node(self, host: Host, leader: Leader, node_id: str) -> None:
        """Errors: `SkepError`."""
        await self._call(host, leader.nodes.remove(node_id, True), f"node {node_id}", None, False)

    async def _call(
        self,
        host: Host,
        call: Coroutine[Any, Any, T],
        key: str,
        value: Hashable | None,
        is_guarded: bool = True,
    ) -> T:
        attempt, life = self._history.begin(key, value, is_guarded), host.lives
        work = host.do(call)
        try:
            async with asyncio.timeout(CALL_S):
                result = await asyncio.shield(work)
        except TimeoutError as error:
            self._unanswered[work] = (host, life, key)
            raise OutcomeUnknown("the manager does not answer") from error
        except OutcomeUnknown:
            raise
        except SkepError:
            if host.is_up and host.lives == life:  # otherwise the word of a dead process, which no user hears
                self._history.refused(attempt)
            raise
        self._history.done(attempt)
        return result

    async def _create(self, host: Host, leader: Leader) -> str:
        rng = self._rng
        self._made += 1
        name = f"s{self._made}"
        kind = rng.choices(("replicated", "global", "port", "job", "global-job"), (5, 2, 2, 2, 1))[0]
        ports = [port for port in PORTS if rng.random() < 0.7] if kind == "port" else []
        replicas = rng.randint(0, PORT_REPLICAS_MAX if kind == "port" else REPLICAS_MAX)
        args = ["sleep", str(rng.randint(1, JOB_MAX_S))] if kind in ("job", "global-job") else []
        update = UpdateConfig(
            parallelism=rng.randint(0, 4),
            delay=rng.choice((0, 0, 2)) * SECOND_NS,
            failure_action="continue",
            monitor=rng.choice((1, 5)) * SECOND_NS,
        )
        spec = ServiceSpec(
            name=name,
            mode=_mode(kind, replicas, rng.randint(1, JOBS_AT_ONCE_MAX)),
            task_template=TaskSpec(
                container_spec=ContainerSpec(image=f"{name}:1", args=args),
                restart_policy=RestartPolicy(condition="any", delay=rng.choice((0, 1, 5)) * SECOND_NS),
                resources=_DEVICE if self._made % 2 else None,
            ),
            update_config=None if args else update,
            endpoint_spec=_host_ports(ports) if ports else None,
        )
        spec = self._with_networks(leader, spec)
        await self._call(host, leader.services.create(spec), f"service {name}", value_of(spec))
        return f"create {name} {kind} x{replicas}"

    def _with_networks(self, leader: Leader, spec: ServiceSpec) -> ServiceSpec:
        """Half the services are on a network or two, some publish automatic ports."""
        if spec.is_job:
            return spec
        rng = self._networks_rng
        ids = sorted(n.id for n in leader.view.networks.values() if n.is_overlay and not n.spec.ingress)
        if rng.random() < 0.5 and ids:
            chosen = [NetworkAttachmentConfig(target=each) for each in rng.sample(ids, min(len(ids), 2))]
            spec = replace(spec, task_template=replace(spec.task_template, networks=chosen))
        if spec.endpoint_spec is None and rng.random() < 0.4:
            published = rng.choice((0, 0, 8100))
            port = PortConfig(
                protocol="tcp", target_port=80, published_port=published, publish_mode="ingress"
            )
            spec = replace(spec, endpoint_spec=EndpointSpec(mode="vip", ports=[port]))
        return spec

    async def _network(self, leader: Leader, host: Host) -> str:
        """A network is made, or one that is there is to go. Errors: `SkepError` where it is in use."""
        rng = self._networks_rng
        there = sorted(n.id for n in leader.view.networks.values() if n.is_overlay and not n.spec.ingress)
        if len(there) < NETWORKS_MAX and rng.random() < 0.8:
            self._made_networks += 1
            name = f"n{self._made_networks}"
            spec = NetworkSpec(name=name, driver=OVERLAY)
            await self._call(host, leader.networks.create(spec), f"network {name}", None, False)
            return f"create network {name}"
        if not there:
            return "there is no network to remove"
        network = leader.view.networks[rng.choice(there)]
        removing = leader.networks.remove(network.id)
        await self._call(host, removing, f"network {network.spec.name}", None, False)
        return f"remove network {network.spec.name}"

    async def _scale(self, host: Host, leader: Leader, service: Service) -> str:
        if service.spec.mode.replicated is None:
            return await self._update(host, leader, service)
        most = PORT_REPLICAS_MAX if service.spec.endpoint_spec else REPLICAS_MAX
        replicas = self._rng.randint(0, most)
        spec = replace(service.spec, mode=_replicated(replicas))
        await self._write(host, leader, service, spec)
        return f"scale {spec.name}={replicas}"

    async def _update(self, host: Host, leader: Leader, service: Service) -> str:
        image = f"{service.spec.name}:{self._rng.randint(1, 1000)}"
        container = service.spec.task_template.container_spec
        assert container is not None
        task = replace(service.spec.task_template, container_spec=replace(container, image=image))
        spec = replace(service.spec, task_template=task)
        if self._networks_rng.random() < 0.3:
            spec = self._with_networks(leader, spec)
        await self._write(host, leader, service, spec)
        return f"update {service.spec.name} to {image}"

    async def _write(self, host: Host, leader: Leader, service: Service, spec: ServiceSpec) -> None:
        change = leader.services.update(service.id, service.version, spec)
        await self._call(host, change, f"service {spec.name}", value_of(spec))

    async def _availability(self, host: Host, leader: Leader, availability: str) -> str:
        """A third of the nodes at most are drained: somebody has to do the work."""
        nodes = list(leader.view.nodes.values())
        drained = [node for node in nodes if node.spec.availability == "drain"]
        if availability == "drain" and len(drained) * 3 >= len(nodes):
            availability = "active"
        node = self._rng.choice(drained if drained and availability == "active" else nodes)
        await self.change_node(host, leader, node, replace(node.spec, availability=availability))
        return f"{availability} {node.description.hostname}"

    async def _role(self, host: Host, leader: Leader, role: str) -> str:
        nodes = list(leader.view.nodes.values())
        managers = [node for node in nodes if node.spec.role == "manager"]
        if not MANAGERS_MIN <= len(managers) < MANAGERS_MAX:
            role = "worker" if len(managers) >= MANAGERS_MIN else "manager"
        chosen = (
            managers
            if role == "worker"
            else [n for n in nodes if n.spec.role == "worker" and not self._leaves(n.id)]
        )
        if not chosen:
            return f"nobody can be made a {role}"
        node = self._rng.choice(chosen)
        await self.change_node(host, leader, node, replace(node.spec, role=role))
        return f"make {node.description.hostname} a {role}"


_DEVICE = ResourceRequirements(reservations=Reservation(generic_resources=[parse_resource("device=1")]))


def _mode(kind: str, replicas: int, at_once: int) -> ServiceMode:
    if kind == "global":
        return ServiceMode(global_=GlobalMode())
    if kind == "global-job":
        return ServiceMode(global_job=GlobalJobMode())
    if kind == "job":
        return ServiceMode(
            replicated_job=ReplicatedJobMode(max_concurrent=at_once, total_completions=replicas // 3)
        )
    return _replicated(replicas)


def _replicated(replicas: int) -> ServiceMode:
    return ServiceMode(replicated=ReplicatedMode(replicas=replicas))


def _host_ports(ports: list[int]) -> EndpointSpec:
    return EndpointSpec(
        mode="vip",
        ports=[
            PortConfig(protocol="tcp", target_port=80, published_port=port, publish_mode="host")
            for port in ports
        ],
    )
