"""Who is on which overlay network, as each agent was told: never what must not be, in the end what is so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from skep.agent.executor.interfaces import Action, TaskContext
from skep.manager.dispatcher.overlay_bounds import Bounds
from skep.model.network import VXLAN_OPTION
from skep.model.overlay import Overlay, OverlayEndpoint
from skep.model.states import RUNNING
from skep.rpc.messages import Lead
from skep.sim.hosts import Host
from skep.sim.picture import Picture
from skep.sim.told import ToldOverlays, endpoints_of
from skep.sim.troubles import UNNOTICED_S
from skep.sim.violation import Violation
from skep.sim.world import World

# So few make a network large, and are told of a service, where that is what is tried.
FEW = Bounds(small_max=6, small_again=3, whole_max=4, part_max=3, services_max=50, addresses_max=6)


class Overlays:
    """Looks at what the agents were told."""

    def __init__(self, world: World, troubled: Mapping[str, float]) -> None:
        self._world = world
        self._troubled = troubled
        self._wrong: list[str] = []
        self.looked_at = 0  # tasks that were told to stop while others could lead to them

    def asked(self, host: Host, action: Action, context: TaskContext) -> None:
        """A host's engine is asked to do something."""
        own = host.told
        if own is None or not context.task.addresses:
            return
        if action is Action.PREPARE:
            self._knows_its_networks(host, own, context)
        elif action is Action.STOP and own.lead is not None:
            self._is_led_to_by_nobody(own.lead, context)

    def check(self) -> None:
        """Errors: `Violation`."""
        for host in self._world.present():
            if host.told is not None and host.told.wrong:
                self._wrong.append(f"{host.name}: {host.told.wrong}")
        if self._wrong:
            raise Violation(self._wrong[0])

    def lacks(self, picture: Picture) -> str:
        """Returns who was told otherwise than it is; an empty text where all know the same, and just that."""
        on: dict[str, set[OverlayEndpoint]] = {}
        vips: dict[str, dict[str, str]] = {}
        hosts = {host.node_id: host for host in self._world.present()}
        for task in picture.tasks.values():
            service = picture.services.get(task.service_id)
            if task.result is not None or task.node_id not in picture.nodes or service is None:
                continue
            name = f"{service.spec.name}.{task.slot or task.node_id}.{task.id}"
            runs = hosts[task.node_id].executor.state_of(task.id) == RUNNING
            for given in task.addresses:
                if _is_across_hosts(picture, given.network_id):
                    endpoint = OverlayEndpoint(given.address.partition("/")[0], task.node_id, name, runs)
                    on.setdefault(given.network_id, set()).add(endpoint)
                    own = {v.network_id: v.addr for v in service.endpoint.vips} if service.endpoint else {}
                    vip = own.get(given.network_id, "").partition("/")[0]
                    vips.setdefault(given.network_id, {})[service.spec.name] = vip
        for host in hosts.values():
            wanted = {i for i, found in on.items() if any(e.node_id == host.node_id for e in found)}
            known = host.told.overlays if host.told is not None else {}
            if known.keys() != wanted:
                return f"{host.name} knows of networks {sorted(known)}, and is on {sorted(wanted)}"
            for network_id, overlay in known.items():
                differs = _part_differs if overlay.network.is_large else _differs
                wrong = differs(overlay, on[network_id], vips[network_id], host.node_id)
                if wrong:
                    return f"{host.name} knows of network {network_id} {wrong}"
        return ""

    # Inside

    def _knows_its_networks(self, host: Host, own: ToldOverlays, context: TaskContext) -> None:
        for network in context.template.networks:
            if network.bridge and network.name != "ingress" and network.id not in own.overlays:
                self._wrong.append(
                    f"{host.name} began task {context.task.id} and knows nothing of {network.name}"
                )

    def _is_led_to_by_nobody(self, lead: Lead, context: TaskContext) -> None:
        """Those who have heard all that this leader said know it by now. What a node keeps of large networks
        from a leader before this one knows when it is asked for, and not while the question is on its way."""
        addresses = {f"{g.network_id} {g.address.partition('/')[0]}" for g in context.task.addresses}
        for other in self._world.present():
            told = other.told
            if told is None or told.lead != lead or not self._hears(other):
                continue
            self.looked_at += bool(addresses)
            led = addresses & told.serving(is_confirmed=self._world.network.is_sending(other.ip))
            if led:
                self._wrong.append(f"{other.name} leads to {sorted(led)}, which was told to stop")

    def _hears(self, host: Host) -> bool:
        """True for who has a session, and to whom nothing is on its way."""
        now = asyncio.get_running_loop().time()
        is_well = host.is_up and not host.place.frozen and host.has_session
        recent = now - self._troubled.get(host.name, 0.0) < UNNOTICED_S
        return is_well and not recent and not self._world.network.is_awaited(host.ip)


def _is_across_hosts(picture: Picture, network_id: str) -> bool:
    network = picture.networks.get(network_id)
    return network is not None and not network.spec.ingress and bool(network.options.get(VXLAN_OPTION))


def _differs(overlay: Overlay, endpoints: set[OverlayEndpoint], vips: dict[str, str], node_id: str) -> str:
    found = endpoints_of(overlay)
    if len(found) != len(endpoints) or set(found) != endpoints:
        return f"{_names(found)}, and on it are {_names(endpoints)}"
    if overlay.nodes.keys() != {each.node_id for each in endpoints}:
        return f"nodes {sorted(overlay.nodes)}, which are not those of its tasks"
    known = {each.name: each.vip for each in overlay.services.values()}
    return "" if known == vips else f"services {known}, and on it are {vips}"


def _part_differs(
    overlay: Overlay, endpoints: set[OverlayEndpoint], vips: dict[str, str], node_id: str
) -> str:
    """Of a large network a node knows its own, and the services of its own: of the smallest ones all that
    serve. By their addresses it knows some that it believes not to serve yet: that leads nobody there."""
    everyone = list(overlay.everyone())
    of_services = {each for service in overlay.services.values() for each in service.endpoints}
    singles = set(overlay.endpoints.values())
    others = (of_services - endpoints) | (singles - endpoints - _waiting(endpoints))
    if others:
        return f"{_names(others)} on it, or otherwise than they are"
    own = {each for each in endpoints if each.node_id == node_id}
    if not _waiting(own) <= _waiting(singles):
        return f"{_names(everyone)}, and {_names(own)} are its own"
    if overlay.nodes.keys() != {each.node_id for each in everyone}:
        return f"nodes {sorted(overlay.nodes)}, which are not those of the tasks that it knows"
    known = {each.name: each for each in overlay.services.values()}
    missing = {_service(each) for each in own} - known.keys()
    if missing:
        return f"services {sorted(known)}, and not {sorted(missing)}, which it asked for"
    for name, service in known.items():
        there = {each for each in endpoints if _service(each) == name}
        serving = {each for each in there if each.takes_new}
        # One that was told in parts is so until it is much smaller.
        is_whole = len(serving) > FEW.part_max // 2 or serving <= set(service.endpoints)
        if service.vip != vips.get(name) or not is_whole or len(service.endpoints) > len(there):
            return f"{_names(service.endpoints)} of service {name} ({service.vip}), which has {_names(there)}"
    return ""


def _waiting(endpoints: Iterable[OverlayEndpoint]) -> set[OverlayEndpoint]:
    """Returns the same as they are before they serve."""
    return {replace(each, takes_new=False) for each in endpoints}


def _service(endpoint: OverlayEndpoint) -> str:
    return endpoint.name.partition(".")[0]


def _names(endpoints: Iterable[OverlayEndpoint]) -> list[str]:
    return sorted(each.name for each in endpoints)
