"""What users do meanwhile, drawn from a seed: services come, grow, change and go; nodes are drained."""

from __future__ import annotations

import random

from msgspec.structs import replace

from skep.manager.leader import Leader
from skep.model.container import ContainerSpec, RestartPolicy
from skep.model.service import Service
from skep.model.spec import (
    GlobalMode,
    ReplicatedMode,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
)

ACTS = ("create", "create", "scale", "scale", "update", "remove", "drain", "activate")
SERVICES_MAX = 6
REPLICAS_MAX = 40
SECOND_NS = 1_000_000_000


class Workload:
    """Errors of the control API are the user's to bear: `step` raises them."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._made = 0

    async def step(self, leader: Leader) -> str:
        """Does one thing and returns what. Errors: `SkepError`."""
        services = list(leader.view.services.values())
        act = self._rng.choice(ACTS)
        if act == "create" and len(services) < SERVICES_MAX:
            return await self._create(leader)
        if act in ("drain", "activate"):
            return await self._availability(leader, "active" if act == "activate" else "drain")
        if not services:
            return await self._create(leader)
        service = self._rng.choice(services)
        if act == "remove":
            await leader.services.remove(service.id)
            return f"remove {service.spec.name}"
        if act == "update":
            return await self._update(leader, service)
        return await self._scale(leader, service)

    async def _create(self, leader: Leader) -> str:
        rng = self._rng
        self._made += 1
        name = f"s{self._made}"
        replicas = rng.randint(0, REPLICAS_MAX)
        is_global = rng.random() < 0.25
        mode = (
            ServiceMode(global_=GlobalMode())
            if is_global
            else ServiceMode(replicated=ReplicatedMode(replicas=replicas))
        )
        spec = ServiceSpec(
            name=name,
            mode=mode,
            task_template=TaskSpec(
                container_spec=ContainerSpec(image=f"{name}:1"),
                restart_policy=RestartPolicy(condition="any", delay=rng.choice((0, 1, 5)) * SECOND_NS),
            ),
            update_config=UpdateConfig(
                parallelism=rng.randint(0, 4),
                delay=rng.choice((0, 0, 2)) * SECOND_NS,
                failure_action="continue",
                monitor=rng.choice((1, 5)) * SECOND_NS,
            ),
        )
        await leader.services.create(spec)
        return f"create {name} " + ("global" if is_global else f"x{replicas}")

    async def _scale(self, leader: Leader, service: Service) -> str:
        if service.spec.mode.global_ is not None:
            return await self._update(leader, service)
        replicas = self._rng.randint(0, REPLICAS_MAX)
        spec = replace(service.spec, mode=ServiceMode(replicated=ReplicatedMode(replicas=replicas)))
        await leader.services.update(service.id, service.version, spec)
        return f"scale {spec.name}={replicas}"

    async def _update(self, leader: Leader, service: Service) -> str:
        image = f"{service.spec.name}:{self._rng.randint(1, 1000)}"
        task = replace(service.spec.task_template, container_spec=ContainerSpec(image=image))
        await leader.services.update(service.id, service.version, replace(service.spec, task_template=task))
        return f"update {service.spec.name} to {image}"

    async def _availability(self, leader: Leader, availability: str) -> str:
        """Half of the nodes at most are drained: somebody has to do the work."""
        nodes = [node for node in leader.view.nodes.values() if node.spec.role == "worker"]
        drained = [node for node in nodes if node.spec.availability == "drain"]
        if availability == "drain" and len(drained) * 2 >= len(nodes):
            availability = "active"
        node = self._rng.choice(drained if drained and availability == "active" else nodes)
        await leader.nodes.update(node.id, node.version, replace(node.spec, availability=availability))
        return f"{availability} {node.description.hostname}"
