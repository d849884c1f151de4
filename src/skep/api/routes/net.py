"""/skep/v1: the ways of the swarm's networks."""

from __future__ import annotations

from aiohttp import web

from skep.api.interfaces import SwarmNode
from skep.api.resolve import find_node, find_service, find_task_or_named
from skep.api.route import LeaderRoute, Route
from skep.api.routes.reply import reply
from skep.model.node import Node
from skep.model.service import Service
from skep.model.task import PendingTask, Task
from skep.rpc.checking import PORT_MAX, PROTOCOLS
from skep.runtime.errors import Invalid, NotFound
from skep.store.view import View


class NetRoutes:
    def __init__(self, node: SwarmNode) -> None:
        self._node = node

    def routes(self) -> list[Route]:
        return [
            LeaderRoute("GET", "/skep/v1/nodes/{id}/net", self.inspect),
            LeaderRoute("GET", "/skep/v1/services/{id}/trace", self.trace),
        ]

    async def inspect(self, request: web.Request) -> web.StreamResponse:
        manager = self._node.manager()
        return reply(await manager.inspect_net(find_node(manager.view, request.match_info["id"])))

    async def trace(self, request: web.Request) -> web.StreamResponse:
        manager = self._node.manager()
        service = find_service(manager.view, request.match_info["id"])
        port, protocol = _port_of(request.query.get("port", ""))
        start = _node_or_task(manager.view, request.query.get("from", ""))
        return reply(manager.trace(service, port, protocol, start))


def _port_of(text: str) -> tuple[int, str]:
    """Returns the number and the protocol of `8080` or `53/udp`. Errors: `Invalid`."""
    number, slash, protocol = text.partition("/")
    if not slash:
        protocol = PROTOCOLS[0]
    is_number = number.isascii() and number.isdecimal() and len(number) < 6
    if not is_number or not 0 < int(number) <= PORT_MAX:
        raise Invalid(f"port {text!r} is none: 8080, or 53/udp")
    if protocol not in PROTOCOLS:
        raise Invalid(f"protocol {protocol!r} is none of {', '.join(PROTOCOLS)}")
    return int(number), protocol


def _service(view: View, text: str) -> Service | None:
    try:
        return find_service(view, text)
    except (NotFound, Invalid):
        return None


def _node_or_task(view: View, text: str) -> Node | Task:
    """Errors: `NotFound`, `Invalid`."""
    try:
        return find_node(view, text)
    except NotFound:
        pass
    try:
        found = find_task_or_named(view, text)
    except NotFound as error:
        why = f"there is no node and no task {text}"
        if (service := _service(view, text)) is not None:
            why += f"; it is a service: name one of its tasks, {service.spec.name}.1, or a node"
        raise NotFound(why) from error
    if isinstance(found, PendingTask):
        raise Invalid(f"task {text} has no node yet, and so no network: skep explain {text}")
    return found
