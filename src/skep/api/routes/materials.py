"""/secrets and /configs (Engine API 1.51)."""

from __future__ import annotations

from aiohttp import web
from msgspec import Struct, field
from msgspec.structs import replace

from skep.api.decode import query_version, read_body
from skep.api.filters import matches_any, matches_labels, parse_filters, spec_labels
from skep.api.interfaces import SwarmNode
from skep.api.objects import Version, reply_time
from skep.api.resolve import find_material
from skep.api.route import LeaderRoute, Route
from skep.api.routes.reply import reply, reply_list
from skep.model.material import CONFIG, KINDS, SECRET, ConfigSpec, Material, SecretSpec
from skep.runtime.errors import Invalid

FILTERS = {
    SECRET: frozenset({"id", "label", "name", "names"}),
    CONFIG: frozenset({"id", "label", "name"}),
}
_SPECS: dict[str, type[ConfigSpec]] = {SECRET: SecretSpec, CONFIG: ConfigSpec}


class MaterialCreated(Struct, rename={"id": "ID"}):
    id: str


class MaterialJson(Struct, rename="pascal"):
    """The data is a config's only."""

    id: str = field(name="ID")
    version: Version
    created_at: str
    updated_at: str
    spec: ConfigSpec


def material_json(material: Material) -> MaterialJson:
    """Returns what clients see: of a secret everything but its data."""
    spec = material.spec if material.kind == CONFIG else replace(material.spec, data=b"")
    return MaterialJson(
        material.id,
        Version(material.version),
        reply_time(material.created_at),
        reply_time(material.updated_at),
        spec,
    )


class MaterialRoutes:
    def __init__(self, node: SwarmNode) -> None:
        self._node = node

    def routes(self) -> list[Route]:
        found: list[Route] = []
        for kind in KINDS:
            found += [
                LeaderRoute(
                    "GET", f"/{kind}s", self.list_all, answer=list[MaterialJson], filters=FILTERS[kind]
                ),
                LeaderRoute(
                    "POST", f"/{kind}s/create", self.create, body=_SPECS[kind], answer=MaterialCreated, ok=201
                ),
                LeaderRoute("GET", f"/{kind}s/{{id}}", self.inspect, answer=MaterialJson),
                LeaderRoute("DELETE", f"/{kind}s/{{id}}", self.remove, ok=204),
                LeaderRoute(
                    "POST", f"/{kind}s/{{id}}/update", self.update, body=_SPECS[kind], query=("version",)
                ),
            ]
        return found

    async def list_all(self, request: web.Request) -> web.StreamResponse:
        view, kind = self._node.manager().view, _kind(request)
        filters = parse_filters(request, FILTERS[kind])
        ids, prefixes, names = (filters.get(k, []) for k in ("id", "name", "names"))
        labels = spec_labels(filters.get("label", []))

        def is_wanted(material: Material) -> bool:
            return (
                material.kind == kind
                and matches_any(ids, material.id)
                and matches_any(prefixes, material.spec.name)
                and (not names or material.spec.name in names)
                and matches_labels(labels, material.spec.labels)
            )

        materials = list(view.materials.values())
        return await reply_list(request, (material_json(m) if is_wanted(m) else None for m in materials))

    async def create(self, request: web.Request) -> web.StreamResponse:
        kind = _kind(request)
        spec, _ = await read_body(request, _SPECS[kind])
        materials = self._node.manager().materials
        return reply(MaterialCreated((await materials.create(kind, spec)).id), 201)

    async def inspect(self, request: web.Request) -> web.StreamResponse:
        return reply(material_json(self._find(request)))

    async def remove(self, request: web.Request) -> web.StreamResponse:
        await self._node.manager().materials.remove(self._find(request).id)
        return web.Response(status=204)

    async def update(self, request: web.Request) -> web.StreamResponse:
        kind = _kind(request)
        spec, _ = await read_body(request, _SPECS[kind])
        try:
            version = query_version(request, kind)
        except Invalid:
            raise Invalid(f"invalid {kind} version") from None  # Docker's words, and no more
        materials = self._node.manager().materials
        await materials.update(self._find(request).id, version, spec)
        return web.Response()

    def _find(self, request: web.Request) -> Material:
        return find_material(self._node.manager().view, _kind(request), request.match_info["id"])


def _kind(request: web.Request) -> str:
    """Returns what the path is about; it may begin with a version."""
    parts = request.path.split("/")
    return SECRET if "secrets" in parts[1:3] else CONFIG
