"""What a node asks of a large overlay network, and who of it there is. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from skep.model.overlay import OverlayEndpoint
from skep.rpc.messages import OverlayAnswered, OverlayAsk

from .overlay_bounds import Bounds
from .overlay_state import KnownService, OverlayState

NAMED_MAX = 32  # services, or single containers, that one name leads to: most lead to one


class FoundEndpoints:
    """`services` by id and `endpoints` by address, as many as a node may have; the others of what was asked
    are unknown."""

    def __init__(self, state: OverlayState, asked: OverlayAsk, bounds: Bounds) -> None:
        self._state = state
        self._bounds = bounds
        self.services: dict[str, KnownService] = {}
        self.endpoints: dict[str, OverlayEndpoint] = {}
        self.answered = OverlayAnswered(
            asked.number,
            [each for each in dict.fromkeys(asked.names) if not self._is_name(each)],
            [each for each in dict.fromkeys(asked.addresses) if not self._is_address(each)],
            [each for each in dict.fromkeys(asked.services) if not self._take_service(each)],
        )

    @property
    def misses_some(self) -> bool:
        """Returns whether something was asked for that nobody has."""
        answered = self.answered
        return bool(answered.unknown_names or answered.unknown_addresses or answered.unknown_services)

    def _is_name(self, name: str) -> bool:
        """A service's name goes before a container's, and those before one that a single container has:
        whoever may make one chooses it."""
        name = name.lower()
        return (
            self._take_services(self._state.named(name))
            or self._take(self._state.container(name))
            or self._take_services(self._state.singles(name))
        )

    def _take_services(self, ids: Sequence[str]) -> bool:
        return sum(self._take_service(each) for each in ids[:NAMED_MAX]) > 0  # all of them, not the first

    def _is_address(self, address: str) -> bool:
        service_id = self._state.with_vip(address)
        return self._take_service(service_id) if service_id else self._take(self._state.at(address))

    def _take_service(self, service_id: str) -> bool:
        service = self._state.service(service_id)
        has_room = service_id in self.services or len(self.services) < self._bounds.services_max
        if service is None or not has_room:
            return False
        self.services[service_id] = service
        return True

    def _take(self, endpoint: OverlayEndpoint | None) -> bool:
        if endpoint is None:
            return False
        has_room = endpoint.address in self.endpoints or len(self.endpoints) < self._bounds.addresses_max
        if has_room:
            self.endpoints[endpoint.address] = endpoint
        return has_room


def all_unknown(asked: OverlayAsk) -> OverlayAnswered:
    """Returns the answer to who asks of a network that it is not on."""
    return OverlayAnswered(asked.number, asked.names, asked.addresses, asked.services)
