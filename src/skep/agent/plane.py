"""What `networking` has its work done by: a kernel, and who answers names."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from skep.agent.leaving import Arrivals
from skep.agent.saying import in_words
from skep.model.kernel_net import Carried, KernelNet
from skep.model.mesh import Mesh
from skep.model.overlay import Overlay
from skep.network.applied import Applied
from skep.runtime.supervise import in_thread


class Plane(Protocol):
    """`network.plane.DataPlane`, or a test's."""

    def apply(self, mesh: Mesh, look: bool = True, gone: Collection[str] = ()) -> Applied: ...
    def forget(self) -> None: ...
    def seen(self, mesh: Mesh) -> KernelNet: ...
    def carried(self) -> list[Carried]: ...
    def clear(self) -> tuple[str, ...]: ...
    def close(self) -> None: ...
    def arrivals(self, addresses: Collection[str]) -> Arrivals: ...
    def why_not_encrypted(self) -> str: ...
    def may_have_ipvs(self) -> bool: ...


class Naming(Protocol):
    """Who answers names as they are told here; `agent.naming`'s, or a test's."""

    @property
    def failures(self) -> list[str]: ...
    def told(self, overlays: dict[str, Overlay], vips: frozenset[str]) -> None: ...


async def cleared(plane: Plane) -> list[str]:
    """Takes all of a node's mesh away. Returns what is still there, for people; raises nothing."""
    try:
        return list(await in_thread(plane.clear))
    except Exception as error:
        return [in_words(error)]
