"""Who holds secrets and configs: the nodes that have tasks for them, all of these, and nobody else."""

from __future__ import annotations

from collections.abc import Mapping

from skep.model.material import references
from skep.sim.hosts import Host
from skep.sim.picture import Picture
from skep.sim.updates import WELL_S
from skep.sim.violation import Violation
from skep.sim.world import World

TAKEN_BACK_S = 10.0  # a task's end is told, written, its node told; each again where the store stumbles


class SecretsChecker:
    """Looks at the agents of machines that have been well for a while: who is cut off keeps what it has."""

    def __init__(self, world: World, troubled: Mapping[str, float]) -> None:
        self._world = world
        self._troubled = troubled
        self._needless: dict[tuple[str, str], float] = {}  # (host, secret) -> since when it is not needed

    def check(self, picture: Picture, now: float) -> None:
        """Errors: `Violation`."""
        self._nothing_is_lacked(picture)
        held = {host: host.held for host in self._world.present() if host.is_up}
        if not any(held.values()) or not self._world.believers():  # nobody takes it back
            self._needless.clear()
            return
        needed = needed_on(picture)
        needless = {
            (host.name, each)
            for host, ids in held.items()
            for each in ids - needed.get(host.node_id, set())
            if self._is_well(host, now)
        }
        self._needless = {key: self._needless.get(key, now) for key in sorted(needless)}
        for (name, material_id), since in self._needless.items():
            if now - since > TAKEN_BACK_S:
                raise Violation(
                    f"{name} holds {material_id} and has no task for it since {now - since:.1f} s"
                )

    def _is_well(self, host: Host, now: float) -> bool:
        return host.has_session and now - self._troubled.get(host.name, 0.0) >= WELL_S

    def _nothing_is_lacked(self, picture: Picture) -> None:
        for host in self._world.present():
            lacked = [each for each in host.executor.lacked if each in picture.materials]
            if lacked:
                raise Violation(f"{host.name} was not given {lacked}, which tasks of its need")


def needed_on(picture: Picture) -> dict[str, set[str]]:
    """Returns node id -> the secrets and configs of its tasks that have not ended."""
    asked: dict[tuple[str, int], set[str]] = {}
    found: dict[str, set[str]] = {}
    for task in picture.tasks.values():
        if task.result is not None:
            continue
        key = (task.service_id, task.spec_version)
        if key not in asked:
            owner = picture.services.get(task.service_id) or picture.removed.get(task.service_id)
            templates = (
                [] if owner is None else [t for t in owner.templates if t.version == task.spec_version]
            )
            asked[key] = {i for t in templates for _, i, _ in references(t.spec.container_spec)}
        if asked[key]:
            found.setdefault(task.node_id, set()).update(asked[key])
    return found


def what_is_held_otherwise(picture: Picture, world: World) -> str:
    """Returns who holds other secrets than its tasks need; an empty text where all is well.

    What was removed while a task of a version before still runs may be there or not.
    """
    needed = needed_on(picture)
    for host in world.present():
        asked = needed.get(host.node_id, set())
        wanted = {each for each in asked if each in picture.materials}
        if not wanted <= host.held <= asked:
            return f"{host.name} holds {sorted(host.held)}, its tasks need {sorted(wanted)}"
    return ""
