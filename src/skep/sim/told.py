"""What one agent was told of overlay networks."""

from __future__ import annotations

from skep.agent.networking import LEAVE_S
from skep.agent.session import Session
from skep.model.overlay import Overlay, OverlayEndpoint
from skep.rpc import messages
from skep.rpc.messages import OVERLAY, Lead, OverlaysHeld, OverlayTold


class ToldOverlays:
    """A subject of the agent's session. `lead` is whose word all of it is."""

    def __init__(self, session: Session) -> None:
        self.overlays: dict[str, Overlay] = {}
        self.lead: Lead | None = None
        self.wrong = ""
        session.on(messages.Registered, lambda said: self._began())
        session.on(OverlayTold, self._told, OVERLAY)
        session.on(OverlaysHeld, self._held, OVERLAY)

    def leave_s(self, network_ids: frozenset[str]) -> float:
        """As `agent.networking`."""
        return LEAVE_S if network_ids & self.overlays.keys() else 0.0

    def serving(self) -> set[str]:
        """Returns the addresses, each with its network's id, that names lead to."""
        return {f"{i} {e.address}" for i, o in self.overlays.items() for e in endpoints_of(o) if e.takes_new}

    def _began(self) -> None:
        self.lead = None

    def _told(self, said: OverlayTold) -> None:
        network_id = said.network.id
        before = Overlay(said.network) if said.complete else self.overlays.get(network_id)
        if before is None:
            self.wrong = f"it was told what is new of {network_id}, and never all of it"
            return
        told = before.told(said.nodes, said.gone_nodes, said.services, said.gone_services)
        self.overlays[network_id] = told
        addresses = [each.address for each in endpoints_of(told)]
        if not said.more and len(addresses) > len(set(addresses)):
            self.wrong = f"two on network {network_id} have one address: {sorted(addresses)}"

    def _held(self, said: OverlaysHeld) -> None:
        self.lead = said.lead
        missing = set(said.network_ids) - self.overlays.keys()
        if missing:
            self.wrong = f"it has networks that it was told nothing of: {sorted(missing)}"
        self.overlays = {i: o for i, o in self.overlays.items() if i in said.network_ids}


def endpoints_of(overlay: Overlay) -> list[OverlayEndpoint]:
    """Returns all that are on a network."""
    return [endpoint for service in overlay.services.values() for endpoint in service.endpoints]
