"""/services (Engine API 1.51)."""

from __future__ import annotations

from urllib.parse import quote

from aiohttp import web
from msgspec import Struct

from skep.api.decode import API_VERSION, query_parsed_bool, query_version, read_body
from skep.api.digests import with_digest
from skep.api.engine import LocalEngine
from skep.api.filters import matches_any, matches_labels, parse_filters, spec_labels
from skep.api.interfaces import ServiceCommands, SwarmNode
from skep.api.resolve import find_service
from skep.api.route import LeaderRoute, Route
from skep.api.routes.defaults import with_defaults
from skep.api.routes.reply import reply, reply_list
from skep.api.service_objects import ServiceJson, service_json
from skep.model.service import RegistryAuth, Service
from skep.model.spec import ServiceSpec
from skep.runtime.errors import Denied, Invalid, NotFound, Unavailable

FILTERS = frozenset({"id", "label", "mode", "name", "runtime"})
AUTH_HEADER = "X-Registry-Auth"
CLIENTS_PIN_SINCE = (1, 30)
STATUS_SINCE = (1, 41)  # `status=true` was added

# What clients put beside a spec, and Docker passes over in silence: dockerode sends all of its own arguments
# as the body (CapRover, Dokploy), and tools change the service that they have read and post all of it back.
BESIDE_SPEC = frozenset(
    {
        *("version", "authconfig", "registryauthfrom", "rollback", "abortsignal"),
        *("id", "createdat", "updatedat", "previousspec", "endpoint"),
        *("updatestatus", "servicestatus", "jobstatus"),
    }
)


class ServiceCreated(Struct, rename={"id": "ID", "warnings": "Warnings"}):
    """`warnings` is null where there are none, as in the answer to an update."""

    id: str
    warnings: list[str] | None = None


class Updated(Struct, rename="pascal"):
    warnings: list[str] | None = None


class ServiceRoutes:
    def __init__(self, node: SwarmNode, engine: LocalEngine) -> None:
        self._node = node
        self._engine = engine

    def routes(self) -> list[Route]:
        return [
            LeaderRoute(
                "GET",
                "/services",
                self.list_all,
                answer=list[ServiceJson],
                query=("status",),
                filters=FILTERS,
            ),
            LeaderRoute(
                "POST", "/services/create", self.create, body=ServiceSpec, answer=ServiceCreated, ok=201
            ),
            LeaderRoute("GET", "/services/{id}", self.inspect, answer=ServiceJson, query=("insertDefaults",)),
            LeaderRoute("DELETE", "/services/{id}", self.remove),
            LeaderRoute(
                "POST",
                "/services/{id}/update",
                self.update,
                body=ServiceSpec,
                answer=Updated,
                query=("version", "rollback", "registryAuthFrom"),
            ),
        ]

    async def list_all(self, request: web.Request) -> web.StreamResponse:
        view = self._node.manager().view
        filters = parse_filters(request, FILTERS)
        with_status = query_parsed_bool(request, "status") and request[API_VERSION] >= STATUS_SINCE
        ids, names = filters.get("id", []), filters.get("name", [])
        labels = spec_labels(filters.get("label", []))
        modes, runtimes = filters.get("mode", []), filters.get("runtime", [])

        def is_wanted(service: Service) -> bool:
            return (
                matches_any(ids, service.id)
                and matches_any(names, service.spec.name)
                and matches_labels(labels, service.spec.labels)
                and (not modes or service.spec.mode_name in modes)
                and (not runtimes or (service.spec.task_template.runtime or "container") in runtimes)
            )

        services = list(view.services.values())
        rows = (service_json(view, each, with_status) if is_wanted(each) else None for each in services)
        return await reply_list(request, rows)

    async def create(self, request: web.Request) -> web.StreamResponse:
        spec, unknown = await read_body(request, ServiceSpec)
        services = self._node.manager().services
        given = _auth_header(request)
        spec, unpinned = await self._pinned(request, spec, given)
        try:
            auth = RegistryAuth(given) if given else None
            service = await services.create(spec, auth, request[API_VERSION])
        except NotFound:
            await self._refuse_local_networks(spec)
            raise
        return reply(ServiceCreated(service.id, _warnings(services, service, unknown, unpinned)), 201)

    async def inspect(self, request: web.Request) -> web.StreamResponse:
        view = self._node.manager().view
        with_all = query_parsed_bool(request, "insertDefaults")
        service = find_service(view, request.match_info["id"])
        answer = service_json(view, service)
        return reply(with_defaults(answer) if with_all else answer)

    async def remove(self, request: web.Request) -> web.StreamResponse:
        manager = self._node.manager()
        await manager.services.remove(find_service(manager.view, request.match_info["id"]).id)
        return web.Response()

    async def update(self, request: web.Request) -> web.StreamResponse:
        spec, unknown = await read_body(request, ServiceSpec)
        version = query_version(request, "service")
        manager = self._node.manager()
        service = find_service(manager.view, request.match_info["id"])
        rollback = request.query.get("rollback", "")
        taken_from = request.query.get("registryAuthFrom", "")
        if rollback == "previous":
            manager.services.auth_for(service.id, _auth_header(request), taken_from)  # whether it may be said
            await manager.services.roll_back(service.id, version)
            return reply(Updated())
        if rollback:
            raise Invalid(f"unrecognized rollback option {rollback}")
        auth = manager.services.auth_for(service.id, _auth_header(request), taken_from)
        spec, unpinned = await self._pinned(request, spec, auth.encoded if auth is not None else "")
        service = await manager.services.update(service.id, version, spec, auth, request[API_VERSION])
        return reply(Updated(_warnings(manager.services, service, unknown, unpinned)))

    async def _pinned(
        self, request: web.Request, spec: ServiceSpec, auth: str
    ) -> tuple[ServiceSpec, list[str]]:
        """Clients pin images themselves, since API 1.30; for older ones it is done here, as Docker does."""
        if request[API_VERSION] >= CLIENTS_PIN_SINCE:
            return spec, []
        return await with_digest(self._engine, spec, auth)

    async def _refuse_local_networks(self, spec: ServiceSpec) -> None:
        """Errors: `Denied`, in Docker's words, where a network is the engine's here, and not the swarm's."""
        for attached in spec.task_template.networks or spec.networks:
            try:
                local = await self._engine.ask(f"/networks/{quote(attached.target, safe='')}")
            except (NotFound, Invalid, Unavailable):
                continue  # nobody's; or nobody can say whose
            if local["Driver"] != "null":
                raise Denied(
                    f"The network {attached.target} cannot be used with services. Only networks scoped to the"
                    " swarm can be used, such as those created with the overlay driver."
                )


def _warnings(
    services: ServiceCommands, service: Service, unknown: list[str], unpinned: list[str]
) -> list[str] | None:
    warnings = unpinned + [
        f"{name}: this field is not known to skep and was ignored"
        for name in unknown
        if name.lower() not in BESIDE_SPEC
    ]
    return (warnings + services.warnings(service.spec)) or None


def _auth_header(request: web.Request) -> str:
    """Returns the client's credentials as they came. Errors: `Invalid` for what no header may carry on; what
    is in them is the engine's to read."""
    given = request.headers.get(AUTH_HEADER, "")
    if not (given.isascii() and given.isprintable()):
        raise Invalid(f"invalid {AUTH_HEADER} header: it must be base64")
    return given
