"""One route of the API, and all that is to be known of it: who answers, and what goes in and out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from msgspec import Struct

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _Place(Struct, frozen=True):
    method: str
    path: str  # without the version
    handler: Handler


class Route(_Place, frozen=True, kw_only=True):
    """`is_leaders`: only a leader can answer it, other managers pass it on. `is_internal`: only managers may
    ask it of each other. `is_endless`: its answer ends when the daemon does.

    The rest is what OpenAPI says: `body` the type that is read, `answer` a type or a list of one, `ok` the
    status of success, `query` the names of values in the query, `filters` those that `filters` may have."""

    is_leaders: bool = False
    is_internal: bool = False
    is_endless: bool = False
    body: type | None = None
    answer: Any = None
    ok: int = 200
    query: tuple[str, ...] = ()
    filters: frozenset[str] = frozenset()


class LeaderRoute(Route, frozen=True, kw_only=True):
    is_leaders: bool = True
