"""What users do meanwhile, drawn from a seed: services come, grow, change, fail, are rolled back and go;
nodes are drained, made managers and workers, leave and join; secrets and configs are made, replaced, removed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from skep.manager.leader import Leader
from skep.manager.orchestrator.updater import UNDER_WAY
from skep.model.container import ContainerSpec, NetworkAttachmentConfig, PortConfig
from skep.model.material import CONFIG, SECRET, ConfigSpec, Material, references
from skep.model.network import OVERLAY, NetworkSpec
from skep.model.node import Node, NodeDescription, NodeSpec
from skep.model.service import Service
from skep.model.spec import EndpointSpec, ServiceSpec, TaskSpec
from skep.runtime.errors import OutcomeUnknown, SkepError
from skep.sim.history import History
from skep.sim.hosts import Host
from skep.sim.specs import (
    DEVICE,
    FAILING,
    FAILING_OR_MISSING,
    WELL,
    as_it_goes,
    draw_restart_policy,
    draw_update_config,
    fails,
    host_ports,
    mode_of,
    replicated,
    with_container,
    with_materials,
)

ACTS = {
    "create": 3,
    "scale": 3,
    "update": 4,
    "rollback": 2,
    "remove": 1,
    "drain": 1,
    "activate": 1,
    "promote": 2,
    "demote": 2,
}
SERVICES_MAX = 6
REPLICAS_MAX = 14
MANAGERS_MIN, MANAGERS_MAX = 2, 5  # fewer are had too while some are demoted
PORTS = (8000, 8001)  # few: services must compete for them
PORT_REPLICAS_MAX = 2
JOBS_AT_ONCE_MAX = 4
JOB_MAX_S = 4
NETWORKS_MAX = 3
NETWORK_RATE, NETWORKED_RATE = 0.15, 0.5  # of what users do; of services, those that are on one or two
NETWORK_RATE_MUCH, NETWORKED_RATE_MUCH = 0.3, 0.9  # where networks are what is tried
MATERIALS_MAX = 4
MATERIAL_RATE = 0.1  # of what users do
FAIL_RATE = 0.35  # of updates, whose tasks fail
CALL_S = 10.0  # a user's patience

T = TypeVar("T")


def value_of(spec: ServiceSpec | NodeSpec) -> Hashable:
    """Returns what a history compares."""
    return msgspec.json.encode(spec)


def demoted(value: Hashable) -> Hashable:
    """Returns the value of a node's spec as a manager that leaves has it changed first."""
    assert isinstance(value, bytes)
    return value_of(replace(msgspec.json.decode(value, type=NodeSpec), role="worker"))


class Workload:
    """Errors of the control API are the user's to bear: `step` raises them. `leaves` says of a node that its
    machine leaves, or has left: nobody makes it a manager then."""

    def __init__(
        self,
        rng: random.Random,
        history: History,
        leaves: Callable[[str], bool],
        images_missing: bool = False,
        networks_much: bool = False,
    ) -> None:
        self._rng = rng
        self._history = history
        self._leaves = leaves
        self._failing = FAILING_OR_MISSING if images_missing else FAILING
        self._network_rate = NETWORK_RATE_MUCH if networks_much else NETWORK_RATE
        self._networked_rate = NETWORKED_RATE_MUCH if networks_much else NETWORKED_RATE
        self._made = self._made_networks = self._made_materials = 0
        self._networks_rng = random.Random(rng.getrandbits(64))
        self._materials_rng = random.Random(rng.getrandbits(64))
        self._unanswered: dict[asyncio.Task[Any], tuple[Host, int, str]] = {}

    async def step(self, host: Host, leader: Leader) -> str:
        """Does one thing by that host's leader and returns what. Errors: `SkepError`."""
        services = list(leader.view.services.values())
        act = self._rng.choices(list(ACTS), list(ACTS.values()))[0]
        if self._networks_rng.random() < self._network_rate:
            return await self._network(leader, host)
        if self._materials_rng.random() < MATERIAL_RATE:
            return await self._material(leader, host)
        if act in ("drain", "activate"):
            return await self._availability(host, leader, "active" if act == "activate" else "drain")
        if act in ("promote", "demote"):
            return await self._role(host, leader, "manager" if act == "promote" else "worker")
        if not services or (act == "create" and len(services) < SERVICES_MAX):
            return await self._create(host, leader)
        under_way = [s for s in services if s.update is not None and s.update.state in UNDER_WAY]
        service = self._rng.choice(under_way if under_way and self._rng.random() < 0.5 else services)
        if act == "rollback":
            return await self._roll_back(host, leader, service)
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
        policy = draw_restart_policy(rng)
        spec = ServiceSpec(
            name=name,
            mode=mode_of(kind, replicas, rng.randint(1, JOBS_AT_ONCE_MAX)),
            task_template=TaskSpec(
                container_spec=ContainerSpec(image=f"{name}:1", args=args),
                # A job that gives up is never as wanted.
                restart_policy=replace(policy, condition="any", max_attempts=None) if args else policy,
                resources=DEVICE if self._made % 2 else None,
            ),
            update_config=None if args else draw_update_config(rng),
            rollback_config=None if args else draw_update_config(rng),
            endpoint_spec=host_ports(ports) if ports else None,
        )
        spec = self._with_materials(leader, self._with_networks(leader, spec))
        await self._call(host, leader.services.create(spec), f"service {name}", value_of(spec))
        return f"create {name} {kind} x{replicas}"

    def _with_networks(self, leader: Leader, spec: ServiceSpec) -> ServiceSpec:
        """Many services are on a network or two, some publish automatic ports."""
        if spec.is_job:
            return spec
        rng = self._networks_rng
        ids = sorted(n.id for n in leader.view.networks.values() if n.is_overlay and not n.spec.ingress)
        if rng.random() < self._networked_rate and ids:
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
        spec = replace(service.spec, mode=replicated(replicas))
        await self._write(host, leader, service, spec)
        return f"scale {spec.name}={replicas}"

    async def _update(self, host: Host, leader: Leader, service: Service) -> str:
        image, rng, spec = f"{service.spec.name}:{self._rng.randint(1, 1000)}", self._rng, service.spec
        how = rng.choice(self._failing) if rng.random() < FAIL_RATE else WELL
        if spec.is_job:
            container = spec.task_template.container_spec
            assert container is not None
            spec, how = with_container(spec, replace(container, image=image)), WELL
        else:
            spec = as_it_goes(spec, image, how)
            if rng.random() < 0.3:
                spec = replace(spec, update_config=draw_update_config(rng))
        if self._networks_rng.random() < 0.3:
            spec = self._with_networks(leader, spec)
        if self._materials_rng.random() < 0.4 or self._lacks(leader, spec):
            spec = self._with_materials(leader, spec)
        await self._write(host, leader, service, spec)
        return f"update {spec.name} to {image}: {how}"

    async def _roll_back(self, host: Host, leader: Leader, service: Service) -> str:
        previous = service.previous_spec
        rolling_back = leader.services.roll_back(service.id, service.version)
        value = None if previous is None else value_of(previous)
        await self._call(host, rolling_back, f"service {service.spec.name}", value)
        return f"roll {service.spec.name} back"

    async def repair(self, host: Host, leader: Leader) -> list[str]:
        """Users look after what failed: once its update has come to an end, they take the spec before, or one
        that goes well. Returns what they did. Errors: `SkepError`."""
        did = []
        for service in list(leader.view.services.values()):
            state = "" if service.update is None else service.update.state
            spec, previous = service.spec, service.previous_spec
            bad = fails(spec) or state in ("paused", "rollback_paused") or self._lacks(leader, spec)
            if spec.is_job or state in UNDER_WAY or not bad:
                continue
            can_go_back = previous is not None and not fails(previous) and not self._lacks(leader, previous)
            if can_go_back and self._rng.random() < 0.3:
                did.append(await self._roll_back(host, leader, service))
                continue
            image = f"{spec.name}:{self._rng.randint(1, 1000)}"
            config = replace(spec.update_config or draw_update_config(self._rng), failure_action="continue")
            spec = replace(as_it_goes(spec, image, WELL), update_config=config)
            spec = self._with_materials(leader, spec) if self._lacks(leader, spec) else spec
            await self._write(host, leader, service, spec)
            did.append(f"repair {spec.name} with {image}")
        return did

    def _lacks(self, leader: Leader, spec: ServiceSpec) -> bool:
        """True where a secret or config that the service refers to was removed: only a spec of before can."""
        asked = references(spec.task_template.container_spec)
        return any(leader.view.material(*each) is None for each in asked)

    def _with_materials(self, leader: Leader, spec: ServiceSpec) -> ServiceSpec:
        """Most services that are written get one or two secrets and configs, or others than they had."""
        there: list[Material] = sorted(leader.view.materials.values(), key=lambda each: each.id)
        rng = self._materials_rng
        return with_materials(spec, rng.sample(there, min(len(there), rng.choice((0, 1, 2)))))

    async def _material(self, leader: Leader, host: Host) -> str:
        """A secret or config is made, or one that is there is to go. Errors: `SkepError` where it is used."""
        rng = self._materials_rng
        there = sorted(leader.view.materials)
        if len(there) < MATERIALS_MAX and rng.random() < 0.8:
            self._made_materials += 1
            kind, name = rng.choice((SECRET, CONFIG)), f"m{self._made_materials}"
            spec = ConfigSpec(name=name, data=name.encode())
            await self._call(host, leader.materials.create(kind, spec), f"material {name}", None, False)
            return f"create {kind} {name}"
        if not there:
            return "there is no secret to remove"
        material = leader.view.materials[rng.choice(there)]
        removing = leader.materials.remove(material.id)
        await self._call(host, removing, f"material {material.spec.name}", None, False)
        return f"remove {material.kind} {material.spec.name}"

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
