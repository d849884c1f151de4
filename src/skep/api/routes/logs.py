"""/services/{id}/logs and /tasks/{id}/logs (Engine API 1.51)."""

from __future__ import annotations

import re

from aiohttp import web

from skep.api.decode import API_VERSION, query_bool
from skep.api.event_filter import parse_time, show_time
from skep.api.filters import BadFilterValue
from skep.api.interfaces import SwarmNode
from skep.api.resolve import find_service, find_task
from skep.api.route import LeaderRoute, Route
from skep.model.logs import LogOptions, LogSelection
from skep.model.service import TaskTemplate
from skep.runtime.errors import SkepError

RAW, MULTIPLEXED = (f"application/vnd.docker.{kind}-stream" for kind in ("raw", "multiplexed"))
MULTIPLEXED_SINCE = (1, 42)  # before, what is framed was called raw, too


class BadLogOption(SkepError):
    """A parameter is wrong: Docker's own 500, in its words."""


_QUERY = ("details", "follow", "stdout", "stderr", "since", "timestamps", "tail")


class LogRoutes:
    """Lines are passed on as they come; a client that does not read holds back the nodes, and nobody else."""

    def __init__(self, node: SwarmNode) -> None:
        self._node = node

    def routes(self) -> list[Route]:
        return [
            LeaderRoute("GET", "/services/{id}/logs", self.of_service, is_endless=True, query=_QUERY),
            LeaderRoute("GET", "/tasks/{id}/logs", self.of_task, is_endless=True, query=_QUERY),
        ]

    async def of_service(self, request: web.Request) -> web.StreamResponse:
        options, since = _options(request)
        service = find_service(self._node.manager().view, request.match_info["id"])
        selection = LogSelection(service.id, is_raw=_has_terminal(service.template))
        return await self._answer(request, selection, options, since)

    async def of_task(self, request: web.Request) -> web.StreamResponse:
        options, since = _options(request)
        view = self._node.manager().view
        task = find_task(view, request.match_info["id"])
        service = view.services.get(task.service_id)
        template = service.template_of(task.spec_version) if service is not None else None
        selection = LogSelection(task.service_id, task.id, _has_terminal(template))
        return await self._answer(request, selection, options, since)

    async def _answer(
        self, request: web.Request, selection: LogSelection, options: LogOptions, since: str
    ) -> web.StreamResponse:
        lines = self._node.manager().logs.open(selection, options, since, query_bool(request, "timestamps"))
        try:
            response = web.StreamResponse()
            is_framed = not selection.is_raw and request[API_VERSION] >= MULTIPLEXED_SINCE
            response.headers["Content-Type"] = MULTIPLEXED if is_framed else RAW
            await response.prepare(request)
            async for part in lines.parts():
                await response.write(part)
            await response.write_eof()
            return response
        finally:
            lines.close()


def _options(request: web.Request) -> tuple[LogOptions, str]:
    """Returns what is wanted, and since when. Errors: `BadLogOption`."""
    stdout, stderr = query_bool(request, "stdout"), query_bool(request, "stderr")
    if not (stdout or stderr):
        raise BadLogOption("Bad parameters: you must choose at least one stream")
    return (
        LogOptions(
            query_bool(request, "follow"),
            stdout,
            stderr,
            _tail(request.query.get("tail", "")),
            query_bool(request, "details"),
        ),
        _since(request.query.get("since", "")),
    )


def _tail(text: str) -> int:
    if text in ("", "all"):
        return -1
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise BadLogOption('tail value must be a positive integer or "all"')
    if int(text) < 0:
        raise BadLogOption("negative tail values not supported")
    return int(text)


def _since(text: str) -> str:
    """Returns `seconds.nanoseconds`, or nothing; clients send no other form (their `10m` is theirs)."""
    try:
        at_ns = parse_time(text) or 0
    except BadFilterValue as error:
        raise BadLogOption(f"could not parse since timestamp: {error}") from error
    return show_time(at_ns) if at_ns > 0 else ""


def _has_terminal(template: TaskTemplate | None) -> bool:
    container = template.spec.container_spec if template is not None else None
    return container is not None and bool(container.tty)
