"""/skep/v1: what nodes, services and tasks take of their hosts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from aiohttp import web
from msgspec import Struct

from skep.api.decode import query_parsed_bool
from skep.api.filters import Filters, parse_filters
from skep.api.interfaces import Manager, SwarmNode
from skep.api.objects import reply_time
from skep.api.resolve import find_node, find_service
from skep.api.route import LeaderRoute, Route
from skep.api.routes.reply import reply
from skep.api.usage_objects import (
    NodesUsageJson,
    NodeUsageJson,
    ServicesUsageJson,
    TasksUsageJson,
    node_usage_json,
    service_usage_json,
    task_usage_json,
)
from skep.model.usage import CPU, SORTS, NodesAsked
from skep.runtime.errors import Invalid
from skep.store.view import View

TASK_FILTERS, SERVICE_FILTERS = frozenset({"node", "service"}), frozenset({"service"})
# Rows where nobody says how many, for nobody reads more; and at most: 3 MB, and 30 ms of the manager's time.
LIMIT, LIMIT_MAX = 100, 10_000
SLICE = 500  # nodes: 5 ms, before the loop goes round


class _Selection(Struct, frozen=True):
    """What is asked for. None: all of them."""

    nodes: list[str] | None
    services: list[str] | None
    sort: str
    limit: int


class UsageRoutes:
    def __init__(self, node: SwarmNode) -> None:
        self._node = node

    def routes(self) -> list[Route]:
        rows = ("sort", "limit")
        return [
            LeaderRoute("GET", "/skep/v1/nodes/usage", self.nodes, answer=NodesUsageJson, query=("sample",)),
            LeaderRoute(
                "GET",
                "/skep/v1/services/usage",
                self.services,
                answer=ServicesUsageJson,
                query=rows,
                filters=SERVICE_FILTERS,
            ),
            LeaderRoute(
                "GET",
                "/skep/v1/tasks/usage",
                self.tasks,
                answer=TasksUsageJson,
                query=rows,
                filters=TASK_FILTERS,
            ),
        ]

    async def nodes(self, request: web.Request) -> web.StreamResponse:
        """What is known of each node: some 250 bytes."""
        manager, own_id = self._node.manager(), self._node.local().node_id
        asked = NodesAsked(0, 0)
        if query_parsed_bool(request, "sample"):
            asked = await manager.usage.ask_nodes()
        view, usage = manager.view, manager.usage
        nodes: list[NodeUsageJson] = []
        for number, node in enumerate(list(view.nodes.values())):
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            nodes.append(node_usage_json(view, node, own_id, usage.of(node.id)))
        return reply(NodesUsageJson(at=_now(), asked=asked.nodes, answered=asked.answered, nodes=nodes))

    async def services(self, request: web.Request) -> web.StreamResponse:
        manager = self._node.manager()
        of = _selection(manager, request, SERVICE_FILTERS)
        found = await manager.usage.services(of.services, of.sort, of.limit)
        return reply(
            ServicesUsageJson(
                at=_now(),
                asked=found.asked.nodes,
                answered=found.asked.answered,
                total=found.total,
                services=[service_usage_json(manager.view, each) for each in found.services],
            )
        )

    async def tasks(self, request: web.Request) -> web.StreamResponse:
        manager = self._node.manager()
        of = _selection(manager, request, TASK_FILTERS)
        found = await manager.usage.tasks(of.nodes, of.services, of.sort, of.limit)
        return reply(
            TasksUsageJson(
                at=_now(),
                asked=found.asked.nodes,
                answered=found.asked.answered,
                total=found.total,
                tasks=[task_usage_json(manager.view, each) for each in found.tasks],
            )
        )


def _now() -> str:
    return reply_time(time.time())


def _selection(manager: Manager, request: web.Request, accepted: frozenset[str]) -> _Selection:
    """Errors: `Invalid`, `NotFound`."""
    filters = parse_filters(request, accepted)
    sort = request.query.get("sort", "") or CPU
    if sort not in SORTS:
        raise Invalid(f"cannot sort by {sort[:100]!r}: it must be one of {', '.join(SORTS)}")
    limit = request.query.get("limit", "") or str(LIMIT)
    is_number = limit.isascii() and limit.isdecimal() and len(limit) <= len(str(LIMIT_MAX))
    if not is_number or not 1 <= int(limit) <= LIMIT_MAX:
        raise Invalid(f"limit {limit[:100]!r} is none: it must be 1 to {LIMIT_MAX} rows")
    nodes, services = _nodes(manager.view, filters), _services(manager.view, filters)
    return _Selection(nodes, services, sort, int(limit))


def _nodes(view: View, filters: Filters) -> list[str] | None:
    """Errors: `NotFound`, `Invalid`."""
    return _ids(find_node(view, each).id for each in filters["node"]) if "node" in filters else None


def _services(view: View, filters: Filters) -> list[str] | None:
    """Errors: `NotFound`, `Invalid`."""
    return _ids(find_service(view, each).id for each in filters["service"]) if "service" in filters else None


def _ids(found: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(found))
