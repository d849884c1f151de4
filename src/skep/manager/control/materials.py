"""Create, label and remove secrets and configs: one small transaction each."""

from __future__ import annotations

import asyncio
import hmac
import posixpath
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgspec.structs import replace

from skep.manager.term import Term
from skep.model.bounds import CONFIG_DATA_MAX_BYTES, SECRET_DATA_MAX_BYTES
from skep.model.container import ConfigReference, ContainerSpec, FileTarget, SecretReference
from skep.model.material import CONFIG, KINDS, SECRET, ConfigSpec, Material, SecretSpec, references
from skep.model.spec import ServiceSpec
from skep.runtime.errors import Conflict, Invalid, NotFound, SkepError, StaleVersion
from skep.store import codec
from skep.store.interfaces import Delete
from skep.store.view import View

# Of all together: `bounds.SHARES`.
DATA_MAX_BYTES = {SECRET: SECRET_DATA_MAX_BYTES, CONFIG: CONFIG_DATA_MAX_BYTES}
NAME_MAX = 64
REFERENCES_MAX = 1024  # of one service: each is a file and a mount in every container
_NAME = re.compile(r"[a-zA-Z0-9]+(?:[a-zA-Z0-9-_.]*[a-zA-Z0-9])?")


class References:
    """What services refer to. Who writes such a service, or takes away what it refers to, holds the lock."""

    def __init__(self, view: View) -> None:
        self.lock = asyncio.Lock()
        self._view = view

    @asynccontextmanager
    async def held(self, spec: ServiceSpec) -> AsyncIterator[None]:
        """For the time of a service's write: what it refers to is there, and stays. Errors: `Invalid`."""
        wanted = references(spec.task_template.container_spec)
        if not wanted:
            yield
            return
        async with self.lock:
            for kind in KINDS:
                missing = [n for k, i, n in wanted if k == kind and self._view.material(k, i, n) is None]
                if missing:
                    word = kind if len(missing) == 1 else kind + "s"
                    raise _invalid(f"{word} not found: {', '.join(missing)}")
            yield


class MaterialControl:
    """See the module's text. `kind` is `secret` or `config`."""

    def __init__(
        self,
        term: Term,
        used: References,
    ) -> None:
        self._term = term
        self._view = term.view
        self._references = used

    async def create(self, kind: str, spec: ConfigSpec) -> Material:
        """Returns the stored object. Errors: `Invalid`, `Conflict` (name in use)."""
        validate_material(kind, spec)
        taken = Conflict(f"rpc error: code = AlreadyExists desc = {kind} {spec.name} already exists")
        if spec.name.lower() in self._view.material_ids[kind]:
            raise taken
        now = self._term.clock.now()
        spec = ConfigSpec(name=spec.name, labels=spec.labels, data=spec.data, templating=spec.templating)
        material = Material(kind=kind, id=self._term.new_id(), spec=spec, created_at=now, updated_at=now)
        try:
            material = await self._term.create(material, codec.material_name_key(kind, spec.name))
        except Conflict as error:
            raise taken from error
        self._term.hub.emit(kind, "create", material.id, name=spec.name)
        return material

    async def update(self, material_id: str, version: int, spec: ConfigSpec) -> Material:
        """Changes labels; data that are given have to be the same. Errors: `Invalid`, `NotFound`,
        `StaleVersion`."""
        async with self._references.lock:
            known = self._known(material_id)
            is_same = not spec.data or hmac.compare_digest(spec.data, known.spec.data)
            if spec.name != known.spec.name or not is_same:
                raise _invalid("only updates to Labels are allowed")
            if version != known.version:
                raise StaleVersion()
            changed = replace(
                known, spec=replace(known.spec, labels=spec.labels), updated_at=self._term.clock.now()
            )
            changed = await self._term.update(known, changed)
        self._term.hub.emit(known.kind, "update", known.id, name=known.spec.name)
        return changed

    async def remove(self, material_id: str) -> None:
        """Errors: `NotFound`, `Invalid` where services use it."""
        async with self._references.lock:
            known = self._known(material_id)
            users = sorted(
                service.spec.name
                for service in self._view.services.values()
                if any(i == known.id for _, i, _ in references(service.spec.task_template.container_spec))
            )
            if users:
                word = "service" if len(users) == 1 else "services"
                what = f"{known.kind} '{known.spec.name}'"
                raise _invalid(f"{what} is in use by the following {word}: {', '.join(users)}")
            key = codec.material_key(known.kind, known.id)
            gone = (Delete(key), Delete(codec.material_name_key(known.kind, known.spec.name)))
            await self._term.remove(key, lambda: self._known(known.id), lambda _: gone)
            self._view.drop_material(known.id)
        self._term.hub.emit(known.kind, "remove", known.id, name=known.spec.name)

    def _known(self, material_id: str) -> Material:
        known = self._view.materials.get(material_id)
        if known is None:
            raise NotFound(f"{material_id} not found")
        return known


def validate_material(kind: str, spec: ConfigSpec) -> None:
    """Errors: `Invalid`, `SkepError`, in Docker's words (swarmkit's controlapi/secret.go and config.go)."""
    if not spec.name:
        raise _invalid("name must be provided")
    if len(spec.name) > NAME_MAX or not _NAME.fullmatch(spec.name):
        raise _invalid(
            "invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, and the start and end character must"
            " be [a-zA-Z0-9]"
        )
    if isinstance(spec, SecretSpec) and spec.driver is not None:
        if not spec.driver.name:
            raise _invalid("secret driver must have a name")
        # Docker's words for a plugin that is not there, and its status, 500: here none ever is.
        raise SkepError(f'rpc error: code = Unknown desc = plugin "{spec.driver.name[:100]}" not found')
    if not 0 < len(spec.data) < DATA_MAX_BYTES[kind]:
        raise _invalid(f"{kind} data must be larger than 0 and less than {DATA_MAX_BYTES[kind]} bytes")


def validate_references(spec: ServiceSpec) -> None:
    """Errors: `Invalid`, in Docker's words, for references that are not whole or have the same target."""
    container = spec.task_template.container_spec
    if container is None:
        return
    if len(container.secrets) + len(container.configs) > REFERENCES_MAX:
        raise Invalid(f"a service has at most {REFERENCES_MAX} secrets and configs together")
    for config in container.configs:
        if (config.file is None) == (config.runtime is None):
            raise Invalid(
                "invalid Config: either File or Runtime should be set"
                if config.file is None
                else "invalid Config: cannot specify both File and Runtime"
            )
    _check_credentials(container)
    _check_targets(SECRET, [_parts(each) for each in container.secrets])
    _check_targets(CONFIG, [_parts(each) for each in container.configs if each.runtime is None])


def _check_credentials(container: ContainerSpec) -> None:
    privileges = container.privileges
    wanted = privileges.credential_spec.config if privileges and privileges.credential_spec else ""
    if wanted and all(c.config_id != wanted or c.runtime is None for c in container.configs):
        raise _invalid(
            f"CredentialSpec references config '{wanted}', but that config isn't in config references with"
            " RuntimeTarget"
        )


def _parts(reference: SecretReference | ConfigReference) -> tuple[str, str, FileTarget | None]:
    if isinstance(reference, SecretReference):
        return reference.secret_id, reference.secret_name, reference.file
    return reference.config_id, reference.config_name, reference.file


def _check_targets(kind: str, given: list[tuple[str, str, FileTarget | None]]) -> None:
    taken: dict[str, str] = {}
    for material_id, name, file in given:
        if not material_id or not name:
            raise _invalid(f"malformed {kind} reference")
        if file is None:
            raise _invalid(f"malformed {kind} reference, no target provided")
        if not file.name or posixpath.normpath(file.name) in (".", "/"):
            raise _invalid(f"malformed file {kind} reference, invalid target file name provided")
        if file.name in taken:
            both = f"'{taken[file.name]}' and '{name}'"
            raise _invalid(f"{kind} references {both} have a conflicting target: '{file.name}'")
        taken[file.name] = name


def _invalid(text: str) -> Invalid:
    return Invalid(f"rpc error: code = InvalidArgument desc = {text}")
