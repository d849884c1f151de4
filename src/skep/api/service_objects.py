"""Services in Docker's JSON (Engine API 1.51)."""

from __future__ import annotations

from msgspec import Struct, field
from msgspec.structs import replace

from skep.api.objects import JobIterationJson, Version, reply_time, shown_task
from skep.model.container import PortConfig
from skep.model.node import DOWN
from skep.model.service import Endpoint, Service, UpdateStatus, iteration_of
from skep.model.spec import EndpointSpec, ServiceSpec, UpdateConfig
from skep.model.wire import Wire
from skep.store.view import View


class VirtualIPJson(Wire, frozen=True, kw_only=True):
    network_id: str = field(name="NetworkID")
    addr: str = ""


class EndpointJson(Wire, frozen=True, kw_only=True):
    spec: EndpointSpec = field(default_factory=EndpointSpec)
    ports: list[PortConfig] = []
    virtual_ips: list[VirtualIPJson] = field(name="VirtualIPs", default=[])


class UpdateStatusJson(Wire, frozen=True, kw_only=True):
    state: str = ""
    started_at: str = ""
    completed_at: str = ""
    message: str = ""


class ServiceStatusJson(Struct, rename="pascal"):
    running_tasks: int
    desired_tasks: int
    completed_tasks: int = 0


class JobStatusJson(Struct, rename="pascal"):
    job_iteration: JobIterationJson
    last_execution: str


class ServiceJson(Wire, frozen=True, kw_only=True):
    id: str = field(name="ID")
    version: Version
    created_at: str
    updated_at: str
    spec: ServiceSpec
    previous_spec: ServiceSpec | None = None
    endpoint: EndpointJson
    update_status: UpdateStatusJson | None = None
    service_status: ServiceStatusJson | None = None
    job_status: JobStatusJson | None = None


def service_json(view: View, service: Service, with_status: bool = False) -> ServiceJson:
    """Returns the service; `with_status` adds its counts (API 1.41)."""
    asked, endpoint = service.spec.endpoint_spec, EndpointSpec()
    is_allocated = service.spec.task_template.networks or service.spec.networks
    if asked is not None and (asked.ports or is_allocated):  # else Docker shows no endpoint
        endpoint = replace(asked, mode=asked.mode or "vip")
    return ServiceJson(
        id=service.id,
        version=Version(service.version),
        created_at=reply_time(service.created_at),
        updated_at=reply_time(service.updated_at),
        spec=_shown(service.spec),
        previous_spec=None if service.previous_spec is None else _shown(service.previous_spec),
        endpoint=_endpoint(endpoint, service.endpoint),
        update_status=_update_json(service.update),
        service_status=status_counts(view, service) if with_status else None,
        job_status=_job_status(service) if service.spec.is_job else None,
    )


def _shown(spec: ServiceSpec) -> ServiceSpec:
    """What Docker always says of a spec, also where it is unset."""
    task = spec.task_template
    return replace(
        spec,
        task_template=replace(shown_task(task), runtime=task.runtime or "container"),
        update_config=_shown_update(spec.update_config),
        rollback_config=_shown_update(spec.rollback_config),
    )


def _shown_update(config: UpdateConfig | None) -> UpdateConfig | None:
    if config is None:
        return None
    return replace(
        config, failure_action=config.failure_action or "pause", order=config.order or "stop-first"
    )


def _endpoint(spec: EndpointSpec, given: Endpoint | None) -> EndpointJson:
    if given is None:
        return EndpointJson(spec=spec)
    vips = [VirtualIPJson(network_id=vip.network_id, addr=vip.addr) for vip in given.vips]
    return EndpointJson(spec=spec, ports=given.ports, virtual_ips=vips)


def _update_json(update: UpdateStatus | None) -> UpdateStatusJson | None:
    if update is None:
        return None
    completed = reply_time(update.completed_at) if update.completed_at else ""
    return UpdateStatusJson(
        state=update.state,
        started_at=reply_time(update.started_at),
        completed_at=completed,
        message=update.message,
    )


def _job_status(service: Service) -> JobStatusJson:
    iteration = JobIterationJson(iteration_of(service.template.version))
    return JobStatusJson(iteration, reply_time(service.last_execution_at))


def status_counts(view: View, service: Service) -> ServiceStatusJson:
    """Returns how many tasks the service has running, is to have, and has completed, as Docker counts."""
    desired = service.spec.replicas
    job = service.spec.mode.replicated_job
    completed = 0
    if job is not None:  # as Docker: what may be under way at once, also when all is done
        desired = job.max_concurrent or 0
    if service.spec.is_job:
        completed = view.completed.get(service.id, {}).get(service.template.version, 0)
        if job is not None:  # a task of a node that was lost may have ended well beside its successor
            completed = min(completed, service.completions)
    if desired is None:  # global: one per node that has or is to have a task
        live = view.live.get(service.id, {})
        desired = len(live) + len(view.pending.get(service.id, ()))
    return ServiceStatusJson(view.running.get(service.id, 0) + _stopping(view, service), desired, completed)


def _stopping(view: View, service: Service) -> int:
    """Returns how many tasks run and are to end. What became of those of a lost node nobody knows."""
    on_nodes = view.stopping.get(service.id, {})
    lost = (n for n in on_nodes if n not in view.nodes or view.node_state(n).state == DOWN)
    return sum(on_nodes.values()) - sum(on_nodes[node_id] for node_id in lost)
