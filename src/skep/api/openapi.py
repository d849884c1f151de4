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

from skep.api.node_objects import NodeJson
from skep.api.objects import TaskJson, encode
from skep.api.port import InitRequest, JoinRequest, ReconnectRequest, UnlockRequest
from skep.api.routes import materials, networks, nodes, own, services, swarm, tasks
from skep.api.server import Route
from skep.api.service_objects import ServiceJson
from skep.api.versions import MAX_VERSION, MIN_VERSION, show_version
from skep.model.cluster import SwarmSpec
from skep.model.material import ConfigSpec, SecretSpec
from skep.model.network import NetworkSpec
from skep.model.node import NodeSpec
from skep.model.spec import ServiceSpec

Schema = dict[str, Any]
_REF = "#/components/schemas/{name}"
_PARAMETERS: dict[str, Schema] = {"version": {"type": "integer", "minimum": 0, "maximum": (1 << 64) - 1}}
_TEXTS = ("since", "until", "rollback", "registryAuthFrom", "tail", "scope")
_NAMES = {"id": "an id, a name, or the beginning of an id", "name": "a name"}


class Message(Struct):
    """The body of every error."""

    message: str


class Operation(Struct, frozen=True):
    """What the table of routes does not say of one. `answer` is a type, or a list of one."""

    body: type | None = None
    answer: Any = None
    ok: int = 200
    query: tuple[str, ...] = ()
    filters: frozenset[str] = frozenset()


_SERVICE_LOGS = ("details", "follow", "stdout", "stderr", "since", "timestamps", "tail")
_OPERATIONS: dict[tuple[str, str], Operation] = {
    ("GET", "/swarm"): Operation(answer=swarm.ClusterJson),
    ("POST", "/swarm/init"): Operation(InitRequest, answer=str),
    ("POST", "/swarm/join"): Operation(JoinRequest),
    ("POST", "/swarm/leave"): Operation(query=("force",)),
    ("POST", "/swarm/update"): Operation(
        SwarmSpec, query=("version", "rotateWorkerToken", "rotateManagerToken", "rotateManagerUnlockKey")
    ),
    ("POST", "/swarm/unlock"): Operation(UnlockRequest),
    ("GET", "/nodes"): Operation(answer=list[NodeJson], filters=nodes.FILTERS),
    ("GET", "/nodes/{id}"): Operation(answer=NodeJson),
    ("DELETE", "/nodes/{id}"): Operation(query=("force",)),
    ("POST", "/nodes/{id}/update"): Operation(NodeSpec, query=("version",)),
    ("GET", "/services"): Operation(answer=list[ServiceJson], query=("status",), filters=services.FILTERS),
    ("POST", "/services/create"): Operation(ServiceSpec, answer=services.Created, ok=201),
    ("GET", "/services/{id}"): Operation(answer=ServiceJson, query=("insertDefaults",)),
    ("POST", "/services/{id}/update"): Operation(
        ServiceSpec, answer=services.Updated, query=("version", "rollback", "registryAuthFrom")
    ),
    ("GET", "/services/{id}/logs"): Operation(query=_SERVICE_LOGS),
    ("GET", "/tasks"): Operation(answer=list[TaskJson], filters=tasks.FILTERS),
    ("GET", "/tasks/{id}"): Operation(answer=TaskJson),
    ("GET", "/tasks/{id}/logs"): Operation(query=_SERVICE_LOGS),
    ("GET", "/networks"): Operation(filters=networks.FILTERS),
    ("POST", "/networks/create"): Operation(NetworkSpec, ok=201),
    ("POST", "/networks/prune"): Operation(filters=networks.PRUNE_FILTERS),
    ("GET", "/networks/{id}"): Operation(query=("verbose", "scope")),
    ("DELETE", "/networks/{id}"): Operation(ok=204),
    ("GET", "/secrets"): Operation(answer=list[materials.MaterialJson], filters=materials.FILTERS["secret"]),
    ("POST", "/secrets/create"): Operation(SecretSpec, answer=materials.Created, ok=201),
    ("GET", "/secrets/{id}"): Operation(answer=materials.MaterialJson),
    ("DELETE", "/secrets/{id}"): Operation(ok=204),
    ("POST", "/secrets/{id}/update"): Operation(SecretSpec, query=("version",)),
    ("GET", "/configs"): Operation(answer=list[materials.MaterialJson], filters=materials.FILTERS["config"]),
    ("POST", "/configs/create"): Operation(ConfigSpec, answer=materials.Created, ok=201),
    ("GET", "/configs/{id}"): Operation(answer=materials.MaterialJson),
    ("DELETE", "/configs/{id}"): Operation(ok=204),
    ("POST", "/configs/{id}/update"): Operation(ConfigSpec, query=("version",)),
    ("GET", "/events"): Operation(
        query=("since", "until"), filters=frozenset({"event", "label", "scope", "type", "service", "node"})
    ),
    ("GET", "/skep/v1/stats"): Operation(answer=own.Stats),
    ("GET", "/skep/v1/asides"): Operation(answer=own.AsidesJson),
    ("GET", "/skep/v1/cluster/settings"): Operation(answer=own.ClusterSettings),
    ("GET", "/skep/v1/cluster/data-key"): Operation(answer=own.DataKeyJson),
    ("POST", "/skep/v1/cluster/data-key/rotate"): Operation(answer=own.DataKeyJson),
    ("POST", "/skep/v1/cluster/settings"): Operation(own.ClusterSettings, answer=own.ClusterSettings),
    ("POST", "/skep/v1/reconnect"): Operation(ReconnectRequest),
}


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
    users = sorted({(r.path, r.method) for r in routes if not r.is_internal})
    types = [t for operation in _OPERATIONS.values() for t in (operation.body, operation.answer) if t]
    types = list(dict.fromkeys([*types, Message]))
    schemas, components = msgspec.json.schema_components(types, schema_hook=_any, ref_template=_REF)
    schema_of = dict(zip(map(repr, types), schemas, strict=True))
    paths: Schema = {}
    for path, method in users:
        operation = _OPERATIONS.get((method, path), Operation())
        paths.setdefault(path, {})[method.lower()] = _operation(path, operation, schema_of)
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


def _operation(path: str, operation: Operation, schema_of: dict[str, Schema]) -> Schema:
    ok: Schema = {"description": "done"}
    if operation.answer is not None:
        ok["content"] = {"application/json": {"schema": schema_of[repr(operation.answer)]}}
    wrong = {"application/json": {"schema": schema_of[repr(Message)]}}
    found: Schema = {
        "responses": {str(operation.ok): ok, "default": {"description": "an error", "content": wrong}}
    }
    parameters = [*_path_parameters(path), *_query_parameters(operation)]
    if parameters:
        found["parameters"] = parameters
    if operation.body is not None:
        body = {"application/json": {"schema": schema_of[repr(operation.body)]}}
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


def _query_parameters(operation: Operation) -> Iterable[Schema]:
    for name in operation.query:
        schema = _PARAMETERS.get(name, {"type": "string" if name in _TEXTS else "boolean"})
        required = {"required": True} if name == "version" else {}
        yield {"name": name, "in": "query", **required, "schema": schema}
    if operation.filters:
        names = ", ".join(sorted(operation.filters))
        says = f'JSON: {{"name": ["value"]}} or {{"name": {{"value": true}}}}; names: {names}'
        yield {"name": "filters", "in": "query", "description": says, "schema": {"type": "string"}}


def _any(kind: type) -> Schema:
    """What is encoded already, or of no one type."""
    return {"description": "any"}
