"""Create, update, remove services: one small transaction each; deciders do the rest."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from skep.manager.allocator import endpoints
from skep.manager.control.attachments import with_network_ids
from skep.manager.control.materials import References, validate_references
from skep.manager.control.unsupported import warnings_for
from skep.manager.control.validate import validate_service
from skep.manager.control.validate_size import check_replicas
from skep.manager.signals import ServiceChanged, ServiceRemoved
from skep.manager.term import Term
from skep.model.access import access_of, check_allowed, check_constraints
from skep.model.bounds import SERVICE_MAX_BYTES, SERVICE_SPEC_MAX_BYTES
from skep.model.normal_form import normalise
from skep.model.service import (
    KEPT_MIN,
    RegistryAuth,
    RemovedService,
    Service,
    UpdateStatus,
    first_template,
    with_template,
)
from skep.model.since import ApiVersion
from skep.model.spec import ServiceSpec
from skep.runtime.errors import Conflict, Invalid, NoSuchAuth, NotFound, StaleVersion, Unsupported
from skep.store import codec
from skep.store.interfaces import Delete, Put


class ServiceControl:
    """`lock` is the one of `NetworkControl`."""

    def __init__(
        self,
        term: Term,
        references: References,
        lock: asyncio.Lock | None = None,
    ) -> None:
        self._references = references
        self._term = term
        self._view = term.view
        self._lock = lock or asyncio.Lock()

    async def create(
        self, spec: ServiceSpec, auth: RegistryAuth | None = None, api: ApiVersion | None = None
    ) -> Service:
        """Returns the stored service. `auth` is for pulling its image; `api` the version of the API that the
        spec is of (None: the newest).

        Errors: `Invalid`, `Unsupported`, `Denied`, `Conflict` (name in use).
        """
        spec = normalise(spec, api)
        service_id = self._term.new_id()
        if not spec.name:
            spec = replace(spec, name=f"service-{service_id[:8]}")  # Docker makes one up too
        validate_service(spec)
        validate_references(spec)
        async with self._using(spec):
            return await self._create(service_id, with_network_ids(self._view, spec), auth)

    async def _create(self, service_id: str, spec: ServiceSpec, auth: RegistryAuth | None) -> Service:
        taken = Conflict(
            "rpc error: code = AlreadyExists desc = name conflicts with an existing object:"
            f" service {spec.name} already exists"
        )
        if spec.name.lower() in self._view.service_names:  # also one that is stored as it was written
            raise taken
        now = self._term.clock.now()
        template = first_template(spec)
        self._check_access(spec, None)
        check_replicas(spec, self._view.tasks_wanted)
        service = Service(
            id=service_id,
            spec=spec,
            templates=[template],
            created_at=now,
            updated_at=now,
            registry_auth=auth,
            last_execution_at=now if spec.is_job else 0.0,
            endpoint=endpoints.decide(self._view, service_id, spec, None),
        )
        with self._claimed(service.id):
            async with self._references.held(service.spec):
                try:
                    service = await self._term.create(service, codec.service_name_key(spec.name))
                except Conflict as error:
                    raise taken from error
        self._term.hub.emit("service", "create", service.id, name=spec.name)
        self._term.tell(ServiceChanged(service.id))
        return service

    async def update(
        self,
        service_id: str,
        version: int,
        spec: ServiceSpec,
        auth: RegistryAuth | None = None,
        api: ApiVersion | None = None,
    ) -> Service:
        """Replaces the spec, and what pulls the image (`auth_for`); that alone needs no new tasks, as in
        Docker's swarm. Errors: `Invalid`, `NotFound`, `StaleVersion`, `Unsupported`."""
        spec = normalise(spec, api)
        known = self._view.services.get(service_id)
        before = None if known is None else known.spec
        validate_service(spec if spec.name or before is None else replace(spec, name=before.name), before)
        validate_references(spec)
        async with self._using(spec, spec if known is None else known.spec):
            spec = with_network_ids(self._view, spec)
            if known is not None and spec.name != known.spec.name:
                raise Unsupported("rpc error: code = Unimplemented desc = renaming services is not supported")
            if known is not None and spec.mode_name != known.spec.mode_name:
                raise Unsupported("rpc error: code = Unimplemented desc = service mode change is not allowed")
            service = self._current(service_id, version)
            check_replicas(spec, self._view.tasks_wanted - service.spec.tasks_wanted)
            changed = self._changed_to(service, spec, None)
            changed = replace(changed, registry_auth=auth, previous_registry_auth=service.registry_auth)
            return await self._write(service, self._with_endpoint(changed))

    def auth_for(self, service_id: str, given: str, taken_from: str) -> RegistryAuth | None:
        """Returns what pulls the image after an update: what the client gives, or else that of the spec or
        of the one before (`registryAuthFrom`).

        Errors: `NotFound`, `NoSuchAuth`.
        """
        service = self._view.services.get(service_id)
        if service is None:
            raise NotFound(f"service {service_id} not found")
        if given:
            return RegistryAuth(given)
        if taken_from not in ("", "spec", "previous-spec"):
            raise NoSuchAuth("unsupported registryAuthFrom value")
        if taken_from != "previous-spec":
            return service.registry_auth
        if service.previous_spec is None:
            raise NoSuchAuth("service does not have a previous spec")
        return service.previous_registry_auth

    async def roll_back(self, service_id: str, version: int) -> Service:
        """Takes the previous spec back. Errors: `Invalid` where there is none, `StaleVersion`, `NotFound`: of
        the service, or of a network that was removed since."""
        service = self._current(service_id, version)
        previous = service.previous_spec
        if previous is None:
            text = f"service {service_id} does not have a previous spec"
            raise Invalid(f"rpc error: code = FailedPrecondition desc = {text}")
        now = self._term.clock.now()
        started_at = self._view.later_than_tasks(service_id, now)
        update = UpdateStatus(
            state="rollback_started", started_at=started_at, message="manually requested rollback"
        )
        if service.spec.is_job:  # nothing is rolled: the job begins anew, with its spec of before
            update = UpdateStatus(
                state="rollback_completed", started_at=now, completed_at=now, message="rollback completed"
            )
        async with self._using(service.spec, previous):
            previous = with_network_ids(self._view, previous)
            service = self._current(service_id, version)
            changed = replace(
                self._changed_to(service, previous, update),
                registry_auth=service.previous_registry_auth,
                previous_registry_auth=service.registry_auth,
            )
            return await self._write(service, self._with_endpoint(changed))

    def _with_endpoint(self, service: Service) -> Service:
        """Returns the service with what its spec asks for, claimed. Errors: `Invalid`, `Denied`."""
        self._check_access(service.spec, service.previous_spec)
        endpoint = endpoints.decide(self._view, service.id, service.spec, service.endpoint)
        return replace(service, endpoint=endpoint)

    def _changed_to(self, service: Service, spec: ServiceSpec, update: UpdateStatus | None) -> Service:
        """Returns the service with another spec. The one it had is what a rollback goes back to, also after
        a rollback: the second one undoes the first."""
        now = self._term.clock.now()
        in_use: set[int] | None = None
        if len(service.templates) > KEPT_MIN or len(codec.encode_object(service)) > SERVICE_MAX_BYTES // 2:
            in_use = {task.spec_version for task in self._view.tasks_of_service(service.id)}
        changed = replace(
            service,
            spec=spec,
            previous_spec=service.spec,
            update=update,
            updated_at=now,
            templates=with_template(service.templates, spec, in_use),
            last_execution_at=now if spec.is_job else 0.0,
        )
        is_too_large = len(codec.encode_object(changed)) > SERVICE_MAX_BYTES
        # A spec beyond our bounds, of an earlier skep: it can be changed, and that not be undone.
        is_beyond = is_too_large and len(msgspec.msgpack.encode(service.spec)) > SERVICE_SPEC_MAX_BYTES
        return replace(changed, previous_spec=None) if is_beyond else changed

    async def remove(self, service_id: str) -> None:
        """The service is gone at once; its tasks follow. Errors: `NotFound`."""
        now = self._term.clock.now()

        def ops(service: Service) -> tuple[Put | Delete, ...]:
            removed = _removed(service, now)
            names = (Delete(key) for key in codec.service_name_keys(service.spec.name))
            marker = Put(codec.removed_key(service.id), codec.encode_object(removed))
            return (Delete(codec.service_key(service.id)), *names, marker)

        key = codec.service_key(service_id)
        service, revision = await self._term.remove(key, lambda: self._known(service_id), ops)
        removed = _removed(service, now)
        self._view.remove_service(replace(removed, version=revision))
        self._term.hub.emit("service", "remove", service.id, name=service.spec.name)
        self._term.tell(ServiceRemoved(service.id))

    def warnings(self, spec: ServiceSpec) -> list[str]:
        """Returns a sentence for each field that is set and not acted on."""
        return warnings_for(spec)

    def _check_access(self, spec: ServiceSpec, before: ServiceSpec | None) -> None:
        """Errors: `Denied` for more of the nodes than the swarm gives, or for nodes that choose themselves;
        `Invalid` for labels of ours that make no sense."""
        cluster = self._view.cluster
        if cluster is not None and not cluster.allow_self_reported_constraints:
            check_constraints(spec, before)
        check_allowed(
            access_of(spec.labels),
            devices=cluster is not None and cluster.allow_devices,
            privileged=cluster is not None and cluster.allow_privileged,
        )

    def _known(self, service_id: str) -> Service:
        """Errors: `NotFound`."""
        service = self._view.services.get(service_id)
        if service is None:
            raise NotFound(f"service {service_id} not found")
        return service

    def _current(self, service_id: str, version: int) -> Service:
        service = self._known(service_id)
        if service.version != version:
            raise StaleVersion()
        return service

    def _using(self, *specs: ServiceSpec) -> contextlib.AbstractAsyncContextManager[None]:
        """Held while what the services of these specs need is decided and written; nothing for most."""
        needs = any(spec.networks or spec.task_template.networks or spec.endpoint_spec for spec in specs)
        return self._lock if needs else contextlib.nullcontext()

    @contextlib.contextmanager
    def _claimed(self, service_id: str) -> Iterator[None]:
        """What was claimed for a service is free again where its record is not written."""
        try:
            yield
        except BaseException:
            service = self._view.services.get(service_id)
            self._view.allocations.settle(service_id, service.endpoint if service is not None else None)
            raise

    async def _write(self, before: Service, after: Service) -> Service:
        with self._claimed(after.id):
            async with self._references.held(after.spec):
                after = await self._term.update(before, after)
        self._term.hub.emit("service", "update", after.id, **service_changes(before, after))
        self._term.tell(ServiceChanged(after.id))
        return after


def _removed(service: Service, now: float) -> RemovedService:
    return RemovedService(
        id=service.id,
        name=service.spec.name,
        templates=service.templates,
        removed_at=now,
        is_job=service.spec.is_job,
    )


def service_changes(before: Service, after: Service) -> dict[str, str]:
    """Returns the attributes of the event of such a change: what Docker names old and new values of.

    A state that an update begins with has no old one; one that is taken away has no word (moby, as observed).
    """
    attributes = {"name": after.spec.name}
    old, new = before.spec.task_template.container_spec, after.spec.task_template.container_spec
    if old is not None and new is not None and old.image != new.image:
        attributes.update(image__old=old.image, image__new=new.image)
    if before.spec.replicas is not None and before.spec.replicas != after.spec.replicas:
        attributes.update(replicas__old=str(before.spec.replicas), replicas__new=str(after.spec.replicas))
    state_before = before.update.state if before.update is not None else ""
    state = after.update.state if after.update is not None else ""
    if state and state != state_before:
        attributes["updatestate__new"] = state
        if state_before:
            attributes["updatestate__old"] = state_before
    return attributes
