"""Whom containers on the swarm's networks ask for names: the node, at the gateway of one of their networks.

The engine's own resolver, which is in every container, asks there for what it does not know itself, and from
the container's address on that network. On an engine that nodes share, the gateway is that of the node which
made the network there, and each of them answers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from skep.agent.executor.interfaces import NameServer, TaskContext
from skep.model.container import NAMESERVERS_LABEL
from skep.model.network import COPY_LABEL, OVERLAY
from skep.network.dns_forward import SERVERS_MAX, may_be_asked
from skep.network.host import RESOLV_CONF
from skep.network.host import nameservers as nameservers_of
from skep.rpc.messages import TaskNetwork

Json = dict[str, Any]


class Resolving:
    """`use` says who answers; without anybody, the engine gives names of its own host's containers only."""

    def __init__(self, resolv_conf: Path = RESOLV_CONF) -> None:
        self._resolv_conf = resolv_conf
        self._server: NameServer | None = None
        self._copies: dict[str, Json] = {}  # the engine's networks that stand for the swarm's, as seen last

    def use(self, server: NameServer) -> None:
        self._server = server

    def has_names(self, network: TaskNetwork) -> bool:
        """True where the swarm knows who is on the network: what the engine knew would hide the others."""
        return self._server is not None and network.driver == OVERLAY and bool(network.bridge)

    def seen(self, copies: Iterable[Json]) -> None:
        self._copies.update((copy["Labels"][COPY_LABEL], copy) for copy in copies)

    def place_task(self, body: Json, context: TaskContext) -> None:
        """Has the task's container, which is about to be made, ask here. Its networks are there by now."""
        addresses = {each.network_id: each.address for each in context.task.addresses}
        there = [each for each in context.template.networks if each.id in addresses]
        there.sort(key=lambda each: each.is_internal)  # that it may ask outside is known where it asks
        # The routing mesh's own network gives nobody a name.
        network = next((each for each in there if self.has_names(each) and each.aliases), None)
        if network is None or self._server is None:
            return
        nameservers = body["HostConfig"].get("Dns") or []
        if nameservers:
            body["Labels"][NAMESERVERS_LABEL] = ",".join(nameservers)
        body["HostConfig"]["Dns"] = list(self._servers(network, nameservers))
        self._server.ask_for(addresses[network.id].partition("/")[0], nameservers)

    def place_single(self, network: TaskNetwork) -> tuple[str, ...]:
        """Returns whom a single container on the network is to ask, the node first; nobody: whom it likes."""
        return self._servers(network, ()) if self.has_names(network) else ()

    def adopt(self, inspected: Json) -> None:
        """Answers a container that is there already, where it asks here."""
        asked = (inspected.get("HostConfig", {}).get("Dns") or [""])[0]
        nameservers = (inspected.get("Config", {}).get("Labels") or {}).get(NAMESERVERS_LABEL, "")
        for network_id, copy in self._copies.items():
            endpoint = (inspected.get("NetworkSettings", {}).get("Networks") or {}).get(copy["Name"])
            if endpoint is not None and asked and asked == gateway_of(copy) and self._server is not None:
                self._serve(network_id)
                address = (endpoint.get("IPAMConfig") or {}).get("IPv4Address") or ""
                self._server.ask_for(address, nameservers.split(","))

    def stop(self, network_id: str) -> None:
        """Nobody of this node is on the network any more."""
        self._copies.pop(network_id, None)
        if self._server is not None:
            self._server.stop(network_id)

    def _servers(self, network: TaskNetwork, named: Sequence[str]) -> tuple[str, ...]:
        """Returns the gateway, and whom the engine goes on to while skepd is not there: who was named, or the
        host's own. A network without a way out leads to none of those."""
        others = named or nameservers_of(self._resolv_conf)
        kept = () if network.is_internal else [each for each in others if may_be_asked(each)]
        return (self._serve(network.id), *kept[: SERVERS_MAX - 1])

    def _serve(self, network_id: str) -> str:
        """Returns the gateway, at which names are answered from now on."""
        copy = self._copies[network_id]
        gateway = gateway_of(copy)
        if self._server is not None:
            self._server.serve(network_id, gateway, bool(copy.get("Internal")))
        return gateway


def gateway_of(copy: Json) -> str:
    """Returns the address that the engine's network has on this host."""
    with contextlib.suppress(LookupError, TypeError):
        return str(copy["IPAM"]["Config"][0]["Gateway"]).partition("/")[0]
    return ""
