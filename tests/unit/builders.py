"""Views with nodes and services in them, for tests of the deciders."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec

from skep.model.change import DropTask, PutTask
from skep.model.cluster import OrchestrationConfig, SwarmSpec
from skep.model.container import ContainerSpec, PortConfig, Reservation, ResourceRequirements, RestartPolicy
from skep.model.generic import parse_resource
from skep.model.node import (
    EngineDescription,
    EnginePlugin,
    Node,
    NodeDescription,
    NodeResources,
    NodeSpec,
    NodeStatus,
)
from skep.model.service import Service, TaskTemplate
from skep.model.spec import (
    EndpointSpec,
    GlobalMode,
    Placement,
    Platform,
    ReplicatedMode,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
)
from skep.model.states import RUNNING
from skep.model.task import Task, TaskStatus
from skep.runtime.ids import NewId, id_source
from skep.store.view import View
from tests.clusters import new_cluster

CPU = 1_000_000_000
GIB = 1 << 30


def new_ids(seed: int = 1) -> NewId:
    return id_source(random.Random(seed))


def add_node(
    view: View,
    node_id: str,
    *,
    state: str = "ready",
    availability: str = "active",
    cpus: int = 4,
    memory_bytes: int = 8 * GIB,
    labels: dict[str, str] | None = None,
    generic: Sequence[str] = (),
    plugins: Sequence[tuple[str, str]] = (),
    addr: str = "",
    engine_labels: dict[str, str] | None = None,
) -> Node:
    node = Node(
        id=node_id,
        spec=NodeSpec(availability=availability, labels=labels or {}),
        description=NodeDescription(
            hostname=f"host-{node_id}",
            platform=Platform(architecture="x86_64", os="linux"),
            resources=NodeResources(
                nano_cpus=cpus * CPU,
                memory_bytes=memory_bytes,
                generic_resources=[parse_resource(each) for each in generic],
            ),
            engine=EngineDescription(
                labels=engine_labels or {}, plugins=[EnginePlugin(type=k, name=n) for k, n in plugins]
            ),
        ),
        created_at=0,
        updated_at=0,
        addr=addr,
    )
    view.put_node(node)
    view.put_node_status(node_id, NodeStatus(state))
    return node


def add_service(
    view: View,
    service_id: str = "s",
    *,
    replicas: int | None = 1,
    placement: Placement | None = None,
    policy: RestartPolicy | None = None,
    reserve_memory_bytes: int = 0,
    reserve: Sequence[str] = (),
    ports: Sequence[PortConfig] = (),
    update: UpdateConfig | None = None,
    image: str = "busybox",
    task: TaskSpec | None = None,
) -> Service:
    resources = None
    if reserve_memory_bytes or reserve:
        generic = [parse_resource(each) for each in reserve]
        resources = ResourceRequirements(
            reservations=Reservation(memory_bytes=reserve_memory_bytes, generic_resources=generic)
        )
    task = task or TaskSpec(
        container_spec=ContainerSpec(image=image),
        placement=placement,
        restart_policy=policy,
        resources=resources,
    )
    mode = ServiceMode(global_=GlobalMode())
    if replicas is not None:
        mode = ServiceMode(replicated=ReplicatedMode(replicas=replicas))
    endpoint = EndpointSpec(ports=list(ports)) if ports else None
    spec = ServiceSpec(
        name=f"name-{service_id}",
        task_template=task,
        mode=mode,
        update_config=update,
        endpoint_spec=endpoint,
    )
    published = msgspec.json.encode(endpoint).decode() if endpoint else ""
    template = TaskTemplate(version=1, spec=task, ports=published)
    service = Service(id=service_id, spec=spec, templates=[template], created_at=0, updated_at=0)
    view.put_service(service)
    return service


def add_cluster(view: View, history_limit: int = 5) -> None:
    spec = SwarmSpec(orchestration=OrchestrationConfig(task_history_retention_limit=history_limit))
    view.put_cluster(new_cluster(spec=spec))


def add_task(
    view: View,
    task_id: str,
    node_id: str,
    slot: int = 1,
    *,
    service_id: str = "s",
    desired: int = RUNNING,
    observed: int | None = RUNNING,
    version: int = 1,
    at: float = 0.0,
    started_at: float = 0.0,
    attempt: int = 0,
    run_at: float = 0.0,
) -> Task:
    task = Task(task_id, service_id, node_id, slot, version, desired, at, at, run_at, None, attempt)
    view.put_task(task)
    if observed is not None:
        view.put_status(task, TaskStatus(observed, at, started_at=started_at))
    return task


def apply(view: View, changes: tuple[object, ...]) -> None:
    """Does to the view what a commit does."""
    for change in changes:
        if isinstance(change, PutTask):
            view.put_task(change.task)
        elif isinstance(change, DropTask):
            view.drop_task(change.task)
