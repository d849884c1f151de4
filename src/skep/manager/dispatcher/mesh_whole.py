"""What all nodes are told alike of the routing mesh: its network, and services that are told whole.

A node that comes is told all of it, in messages that are made once for all that come; the others, in messages
made once for all of them, what has changed since.
"""

from __future__ import annotations

from collections.abc import Iterable, Set

from msgspec.structs import replace

from skep.model.mesh import MeshService
from skep.model.overlay import OverlayNetwork
from skep.rpc.messages import MESH, MESH_CHANGES, MESH_PARTS, MeshTold, encode
from skep.store.view import View

from .mesh_services import MeshServices, Settled
from .mesh_teller import PartsTeller
from .sessions import Sessions
from .told_frames import mesh_parts
from .tunnel_ends import TunnelEnds


class WholeTeller:
    """`came` are nodes that have tasks in the mesh since it was told last."""

    def __init__(
        self, view: View, sessions: Sessions, services: MeshServices, parts: PartsTeller, ends: TunnelEnds
    ) -> None:
        self._view = view
        self._sessions = sessions
        self._services = services
        self._parts = parts
        self._ends = ends
        self.came: set[str] = set()
        self._told: dict[str, MeshService] = {}  # as all who listen know them; what is missing is told whole
        self._in_parts: set[str] = set()  # services that were told in parts, the last time
        self._untold: set[str] = set()  # services that are others since they were told last
        self._untold_network: OverlayNetwork | None = None
        self._untold_data_path = ""
        # What each node is told when it comes, and whether that is all there is.
        self._all: dict[bool, tuple[bool, list[bytes]]] = {}  # by whether they know parts

    # What has changed

    def take(self, settled: Settled) -> None:
        """Takes what is otherwise than when it was told."""
        if settled.services or settled.is_network or settled.is_data_path:
            self._all.clear()
        if settled.is_network:
            self._untold_network = self._services.network
        if settled.is_data_path:
            self._untold_data_path = self._services.data_path
        self._untold |= settled.services
        self.came |= settled.came

    def forget_all(self) -> None:
        """What nodes are told that come is another."""
        self._all.clear()

    def forget_untold(self) -> None:
        """What is told from now on is what changes from now on."""
        self._told = dict(self._services.whole)
        self._untold, self._untold_network, self._untold_data_path = set(), None, ""
        self.came = set()

    # Telling

    def nothing(self, own: list[tuple[str, str]]) -> MeshTold:
        """Returns what a node is told that has come, where there are no services; `own` is its address."""
        network, lead = self._services.network, self._sessions.lead
        return MeshTold(self._is_whole, network, own, lead=lead, data_path=self._services.data_path)

    @property
    def _is_whole(self) -> bool:
        """Where not all can be read from the store, what the node has besides is not to go."""
        return not self._view.quarantine

    def all(self, knows_parts: bool) -> list[bytes]:
        """Returns what it is told otherwise, but for its own address: messages after which more follows."""
        is_whole = self._is_whole
        found = self._all.get(knows_parts)
        if found is None or found[0] != is_whole:
            found = self._all[knows_parts] = is_whole, self._all_of(knows_parts, is_whole)
        return found[1]

    def _all_of(self, knows_parts: bool, is_whole: bool) -> list[bytes]:
        in_parts = self._parts.services if knows_parts else {}
        services = [each for each in self._services.whole.values() if each.id not in in_parts]
        nodes = self._ends.of(self._services.hosts)
        told = MeshTold(is_whole, self._services.network, nodes, services=services, lead=self._sessions.lead)
        told = replace(told, data_path=self._services.data_path)
        return [encode(replace(part, more=True)) for part in mesh_parts(told)]

    def take_news(self, moved: Set[str], gone: Iterable[str]) -> tuple[MeshTold, dict[str, MeshService]]:
        """Returns what has changed, and services as they were told before; should it not be told, they are
        told whole the next time. `moved` and `gone` are nodes."""
        before, self._told = self._told, {}
        whole = self._services.whole
        told = MeshTold(
            network=self._untold_network,
            nodes=self._ends.of(self.came | (moved & self._services.hosts)),
            gone_nodes=sorted(gone),
            services=[whole[each] for each in sorted(self._untold) if each in whole],
            gone_services=[each for each in sorted(self._untold) if each not in whole],
            lead=self._sessions.lead,
            data_path=self._untold_data_path,
        )
        return told, before

    def tell(self, told: MeshTold, before: dict[str, MeshService]) -> int:
        """Tells all what has changed since then; earlier agents each service whole. Returns how many bytes
        that is, to all together."""
        if told == MeshTold(lead=told.lead):
            return 0
        size = 0
        changes = [each.since(before[each.id]) if each.id in before else each for each in told.services]
        if self._sessions.knows_any(MESH_CHANGES, without=MESH_PARTS):
            size += self._send(replace(told, services=changes), MESH_CHANGES, without=MESH_PARTS)
        if self._sessions.knows_any(MESH, without=MESH_CHANGES):
            size += self._send(told, MESH, without=MESH_CHANGES)
        parts, in_parts, self._in_parts = self._parts.services, self._in_parts, set(self._parts.services)
        whole = {each.id: each for each in told.services if each.id in in_parts}
        told = replace(
            told,
            services=[whole.get(each.id, each) for each in changes if each.id not in parts],
            gone_services=[each for each in told.gone_services if each not in parts],
        )
        return size + (self._send(told, MESH_PARTS) if told != MeshTold(lead=told.lead) else 0)

    def _send(self, told: MeshTold, feature: str, without: str | None = None) -> int:
        size = 0
        for part in mesh_parts(told):
            frame = encode(part)
            size += self._sessions.broadcast_frame(frame, feature, without) * len(frame)
        return size
