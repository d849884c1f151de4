"""What this API is, as OpenAPI 3.1: the routes as they are registered, bodies and answers as they are decoded
and encoded. Nothing is written twice: a type that changes changes here too.

`docs/openapi.json` is the same (`scripts/openapi.py`); a fuzzer reads it (tests/fuzz).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable
from typing import Any

import msgspec
from aiohttp import web
from msgspec import Struct

from skep.api.objects import encode
from skep.api.route import Route
from skep.api.versions import MAX_VERSION, MIN_VERSION, show_version
from skep.model.usage import CPU, SORTS

Schema = dict[str, Any]
_REF = "#/components/schemas/{name}"
_PARAMETERS: dict[str, Schema] = {
    "version": {"type": "integer", "minimum": 0, "maximum": (1 << 64) - 1},
    "limit": {"type": "integer", "minimum": 1, "maximum": 10_000, "default": 100},
    "sort": {"type": "string", "enum": list(SORTS), "default": CPU},
}
_TEXTS = ("since", "until", "rollback", "registryAuthFrom", "tail", "scope")
_NAMES = {"id": "an id, a name, or the beginning of an id", "name": "a name"}


class Message(Struct):
    """The body of every error."""

    message: str


class OpenApiRoutes:
    """`routes` are all the others."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._all = [*routes, *self.routes()]

    def routes(self) -> list[Route]:
        return [Route("GET", "/skep/v1/openapi.json", self.document)]

    async def document(self, request: web.Request) -> web.StreamResponse:
        return web.Response(body=self._encoded, content_type="application/json")

    @functools.cached_property
    def _encoded(self) -> bytes:
        return encode(openapi(self._all))


def openapi(routes: Iterable[Route]) -> Schema:
    """Returns the document for the routes that are not only for other managers."""
    users = sorted((r for r in routes if not r.is_internal), key=lambda each: (each.path, each.method))
    types = [kind for route in users for kind in (route.body, route.answer) if kind]
    types = list(dict.fromkeys([*types, Message]))
    schemas, components = msgspec.json.schema_components(types, schema_hook=_any, ref_template=_REF)
    schema_of = dict(zip(map(repr, types), schemas, strict=True))
    paths: Schema = {}
    for route in users:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "skep",
            "version": show_version(MAX_VERSION),
            "description": "The paths of Docker's Engine API that skep answers itself, and its own below"
            " /skep/v1. Every path may begin with /vX.YY, from"
            f" {show_version(MIN_VERSION)} on. All others are the local engine's.",
        },
        "paths": paths,
        "components": {"schemas": {name: _dedented(each) for name, each in sorted(components.items())}},
    }


def _dedented(schema: Schema) -> Schema:
    """Returns it with its docstring as Python has docstrings since 3.13, whichever this one is."""
    if "description" not in schema:
        return schema
    return schema | {"description": inspect.cleandoc(schema["description"])}


def _operation(route: Route, schema_of: dict[str, Schema]) -> Schema:
    ok: Schema = {"description": "done"}
    if route.answer is not None:
        ok["content"] = {"application/json": {"schema": schema_of[repr(route.answer)]}}
    wrong = {"application/json": {"schema": schema_of[repr(Message)]}}
    found: Schema = {
        "responses": {str(route.ok): ok, "default": {"description": "an error", "content": wrong}}
    }
    parameters = [*_path_parameters(route.path), *_query_parameters(route)]
    if parameters:
        found["parameters"] = parameters
    if route.body is not None:
        body = {"application/json": {"schema": schema_of[repr(route.body)]}}
        found["requestBody"] = {"required": True, "content": body}
    return found


def _path_parameters(path: str) -> Iterable[Schema]:
    for part in path.split("/"):
        if part.startswith("{"):
            name = part.strip("{}")
            schema = {"type": "string", "minLength": 1}
            yield {
                "name": name,
                "in": "path",
                "required": True,
                "description": _NAMES[name],
                "schema": schema,
            }


def _query_parameters(route: Route) -> Iterable[Schema]:
    for name in route.query:
        schema = _PARAMETERS.get(name, {"type": "string" if name in _TEXTS else "boolean"})
        required = {"required": True} if name == "version" else {}
        yield {"name": name, "in": "query", **required, "schema": schema}
    if route.filters:
        names = ", ".join(sorted(route.filters))
        says = f'JSON: {{"name": ["value"]}} or {{"name": {{"value": true}}}}; names: {names}'
        yield {"name": "filters", "in": "query", "description": says, "schema": {"type": "string"}}


def _any(kind: type) -> Schema:
    """What is encoded already, or of no one type."""
    return {"description": "any"}
