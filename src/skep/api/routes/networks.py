"""/networks (Engine API 1.51): the swarm's and the local engine's in one.

The swarm's are answered by the leader, the engine's by the engine here; a request is looked at here first,
to see whose it is. The bridges that stand for the swarm's networks are shown as what they stand for.
"""

from __future__ import annotations

import contextlib
from urllib.parse import quote

import msgspec
from aiohttp import web

from skep.api.decode import decode_body, query_bool, read_bytes
from skep.api.engine import LocalEngine
from skep.api.filters import Filters, matches_labels, parse_filters
from skep.api.forward import LeaderForward, patiently
from skep.api.interfaces import SwarmNode
from skep.api.network_filters import check_filters, fits, listed, until_of
from skep.api.network_objects import Json, network_json
from skep.api.passthrough import Passthrough
from skep.api.resolve import find_network
from skep.api.route import Route
from skep.api.routes.reply import reply
from skep.model.network import COPY_LABEL, COPY_NAME_LABEL, OVERLAY, NetworkSpec
from skep.runtime.errors import Conflict, Denied, Invalid, NoLeader, NotFound, NotManager, Unavailable

FILTERS = frozenset({"dangling", "driver", "id", "label", "name", "scope", "type"})
PRUNE_FILTERS = frozenset({"label", "label!", "until"})


class NetworkRoutes:
    """`forward` passes writes on to the leader; None: this is the API for other managers."""

    def __init__(self, node: SwarmNode, engine: LocalEngine, forward: LeaderForward | None) -> None:
        self._node = node
        self._engine = engine
        self._forward = forward
        self._passthrough = Passthrough(engine)

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/networks", self.list_all, filters=FILTERS),
            Route("POST", "/networks/create", self.create, body=NetworkSpec, ok=201),
            Route("POST", "/networks/prune", self.prune, filters=PRUNE_FILTERS),
            Route("GET", "/networks/{id}", self.inspect, query=("verbose", "scope")),
            Route("DELETE", "/networks/{id}", self.remove, ok=204),
            Route("GET", "/networks", self.list_swarm, is_internal=True),
            Route("POST", "/networks/create", self.create_swarm, is_internal=True),
            Route("POST", "/networks/prune", self.prune_swarm, is_internal=True),
            Route("GET", "/networks/{id}", self.inspect_swarm, is_internal=True),
            Route("DELETE", "/networks/{id}", self.remove_swarm, is_internal=True),
        ]

    # Whose is it?

    async def list_all(self, request: web.Request) -> web.StreamResponse:
        """A manager whose engine does not answer shows the swarm's: `stack deploy` needs no others."""
        filters = parse_filters(request, FILTERS)
        check_filters(filters)
        is_manager = self._node.local().is_manager
        try:
            copies, local = await self._copies(), await self._engine_list(request)
        except Unavailable as error:
            if not is_manager:
                raise
            answer = reply(await self._swarms(filters))
            answer.headers["Warning"] = f'199 skepd "{error} Its own networks are missing here."'
            return answer
        if is_manager:
            found = await self._swarms(filters)
        else:
            found = [each for each in map(_of_copy, copies) if fits(each, filters, is_used=True)]
        hidden = {copy["Id"] for copy in copies}
        return reply(found + [each for each in local if each["Id"] not in hidden])

    async def create(self, request: web.Request) -> web.StreamResponse:
        body = await read_bytes(request)
        spec, _ = decode_body(body, NetworkSpec)
        if spec.config_only or (spec.driver != OVERLAY and spec.scope != "swarm" and not spec.ingress):
            if await self._swarm_one(spec.name) is not None and spec.name not in ("host", "bridge"):
                raise Conflict(f"network with name {spec.name} already exists")
            return await self._passthrough.handle(request, body)
        local = self._node.local()
        if local.state in ("active", "pending") and not local.is_manager:
            raise Denied(
                "Cannot create a multi-host network from a worker node. Please create the network from a"
                " manager node."
            )
        assert self._forward is not None
        await self._refuse_engines_name(spec.name)
        if spec.config_from is not None and spec.config_from.network:
            await self._check_configuration(spec.config_from.network)
        return await self._forward.answer(request, self.create_swarm)

    async def inspect(self, request: web.Request) -> web.StreamResponse:
        term, scope = request.match_info["id"], request.query.get("scope", "")
        verbose = _parse_bool(request.query.get("verbose", ""))
        silence: Unavailable | None = None
        found = await self._swarm_one(term, verbose) if scope in ("", "swarm") else None
        if found is not None and scope == "" and _is_predefined(found) and found["Id"] != term:
            found = None  # the node's own is meant
        if found is None and scope in ("", "local"):
            local, silence = await self._if_it_answers(term)
            if local is not None and copy_of(local) == "":
                return reply(local)
            if local is not None and scope == "":
                found = await self._swarm_one(copy_of(local), verbose) or _of_copy(local)
        if found is None and scope in ("", "swarm"):
            found = await self._swarm_one(term, verbose, by_prefix=True)
        if found is None:
            raise silence or NotFound(f"network {term} not found")
        with contextlib.suppress(Unavailable):  # then nobody can say which containers are on it
            await self._add_containers(found)
        return reply(found)

    async def remove(self, request: web.Request) -> web.StreamResponse:
        term = request.match_info["id"]
        found = await self._swarm_one(term)
        if found is None or _is_predefined(found):
            local, silence = await self._if_it_answers(term)
            if local is None:
                found = await self._swarm_one(term, by_prefix=True)
                if found is None and silence is not None:
                    raise silence
            elif copy_of(local):
                self._node.manager()  # on a worker: who may remove it
                raise NotFound(f"network {term} not found")
            else:
                return await self._passthrough.handle(request)
        if found is None:
            return await self._passthrough.handle(request)
        assert self._forward is not None
        return await self._forward.answer(request, self.remove_swarm)

    async def prune(self, request: web.Request) -> web.StreamResponse:
        filters = parse_filters(request, PRUNE_FILTERS)
        deleted: list[str] = []
        if self._node.local().is_manager:
            deleted = await self._ask("POST", "/networks/prune", filters) or []
        if self._engine.socket_path is not None:
            try:
                await self._engine.check()
            except Unavailable:
                if not deleted:
                    raise
                return reply({"NetworksDeleted": deleted})
            local = dict(filters)
            local["label!"] = [*filters.get("label!", []), COPY_LABEL]
            answer = await self._engine.call("POST", "/networks/prune", {"filters": _encoded(local)})
            deleted += answer.get("NetworksDeleted") or []
        return reply({"NetworksDeleted": deleted or None})

    async def bridge_of(self, term: str) -> Json | None:
        """Returns the bridge that stands for the swarm's network with that name or id; None where there is
        none here."""
        found = [each for each in await self._copies() if term == copy_of(each) or is_named(each, term)]
        # The bridge of a network of before, with the same name, stays for a moment after it.
        return max(found, key=lambda copy: str(copy["Created"]), default=None)

    # The leader's

    async def list_swarm(self, request: web.Request) -> web.StreamResponse:
        view = self._node.manager().view
        return reply(listed(view, parse_filters(request, FILTERS)))

    async def create_swarm(self, request: web.Request) -> web.StreamResponse:
        spec, _ = decode_body(await read_bytes(request), NetworkSpec)
        network = await self._node.manager().networks.create(spec)
        return reply({"Id": network.id, "Warning": ""}, 201)

    async def inspect_swarm(self, request: web.Request) -> web.StreamResponse:
        term, by_prefix = request.match_info["id"], query_bool(request, "prefix")
        return reply(self._here(term, query_bool(request, "verbose"), by_prefix))

    async def remove_swarm(self, request: web.Request) -> web.StreamResponse:
        manager = self._node.manager()
        network = find_network(manager.view, request.match_info["id"])
        await manager.networks.remove(network.id)
        return web.Response(status=204)

    async def prune_swarm(self, request: web.Request) -> web.StreamResponse:
        return reply(await self._prune_here(parse_filters(request, PRUNE_FILTERS)))

    async def _prune_here(self, filters: Filters) -> list[str]:
        manager = self._node.manager()
        until = until_of(filters)
        deleted = []
        for network in list(manager.view.networks.values()):
            if network.is_predefined or network.spec.ingress or (until and network.created_at >= until):
                continue
            if not matches_labels(filters.get("label", []), network.spec.labels):
                continue
            if any(matches_labels([each], network.spec.labels) for each in filters.get("label!", [])):
                continue
            try:
                await manager.networks.remove(network.id)
            except (Invalid, NotFound):
                continue  # in use, or gone meanwhile
            deleted.append(network.spec.name)
        return deleted

    def _here(self, term: str, verbose: bool, by_prefix: bool) -> object:
        view = self._node.manager().view
        network = find_network(view, term, by_prefix)
        return msgspec.to_builtins(network_json(network, view if verbose else None))

    # Asking the leader

    async def _swarms(self, filters: Filters) -> list[Json]:
        async def ask() -> list[Json]:
            if self._node.leader_socket() is None:
                return listed(self._node.manager().view, filters)
            query = f"?filters={quote(_encoded(filters))}"
            return list(msgspec.json.decode(await self._node.ask_leader("GET", "/networks" + query)))

        try:
            return await patiently(ask)
        except NotManager as error:
            if isinstance(error, NoLeader):
                raise
            return []

    async def _swarm_one(self, term: str, verbose: bool = False, by_prefix: bool = False) -> Json | None:
        """Returns the swarm's network with that id or name; None where there is none, or on a worker."""
        if not term or not self._node.local().is_manager:
            return None

        async def ask() -> Json:
            if self._node.leader_socket() is None:
                found = self._here(term, verbose, by_prefix)
            else:
                query = f"?verbose={int(verbose)}&prefix={int(by_prefix)}"
                path = f"/networks/{quote(term, safe='')}{query}"
                found = msgspec.json.decode(await self._node.ask_leader("GET", path))
            assert isinstance(found, dict)
            return found

        try:
            return await patiently(ask)
        except NotFound:
            return None
        except NotManager as error:
            if isinstance(error, NoLeader):
                raise
            return None  # locked, or a worker by now: what is here is the engine's

    async def _ask(self, method: str, path: str, filters: Filters) -> list[str]:
        async def ask() -> list[str]:
            if self._node.leader_socket() is None:
                return await self._prune_here(filters)
            query = f"?filters={quote(_encoded(filters))}"
            return list(msgspec.json.decode(await self._node.ask_leader(method, path + query)))

        return await patiently(ask)

    # Asking the engine

    async def _check_configuration(self, name: str) -> None:
        """Errors: `NotFound` where this node has no such configuration, as in Docker since 28: else every
        task on the network would be rejected one day."""
        if self._engine.socket_path is None:
            return
        for each in await self._engine_networks({"name": [name]}):
            if each["Name"] == name and each.get("ConfigOnly"):
                return
        raise NotFound(f'configuration network "{name}" does not exist')

    async def _engine_list(self, request: web.Request) -> list[Json]:
        if self._engine.socket_path is None:
            return []
        query = {"filters": request.query["filters"]} if "filters" in request.query else {}
        return list(await self._engine.ask("/networks", query))

    async def _engine_networks(self, filters: Filters) -> list[Json]:
        if self._engine.socket_path is None:
            return []
        return list(await self._engine.ask("/networks", {"filters": _encoded(filters)}))

    async def _copies(self) -> list[Json]:
        return await self._engine_networks({"label": [COPY_LABEL]})

    async def of_engine(self, term: str) -> Json | None:
        """Returns the engine's network; None where it has none, or several that fit."""
        if self._engine.socket_path is None:
            return None
        try:
            found: Json = await self._engine.ask(f"/networks/{quote(term, safe='')}")
        except NotFound:
            return None
        return found

    async def _if_it_answers(self, term: str) -> tuple[Json | None, Unavailable | None]:
        """Returns the engine's network, as `of_engine`; or the error of an engine that does not answer, which
        counts where the swarm has none either."""
        try:
            return await self.of_engine(term), None
        except Unavailable as error:
            return None, error

    async def _refuse_engines_name(self, name: str) -> None:
        """Errors: `Conflict` where the engine has a network of that name, as far as it answers."""
        with contextlib.suppress(Unavailable):
            for each in await self._engine_networks({"name": [name]} if name else {}):
                if each["Name"] == name and COPY_LABEL not in (each.get("Labels") or {}):
                    raise Conflict(f"network with name {name} already exists")

    async def _add_containers(self, network: Json) -> None:
        """Says which containers of this node are on the network."""
        for copy in await self._copies() if self._engine.socket_path is not None else []:
            if copy_of(copy) == network["Id"]:
                local = await self._engine.ask(f"/networks/{copy['Id']}")
                network["Containers"] = local.get("Containers") or None
                return


def copy_of(local: Json) -> str:
    """Returns the id of the swarm's network that an engine's network stands for; an empty text: none."""
    return str((local.get("Labels") or {}).get(COPY_LABEL, ""))


def is_named(copy: Json, name: str) -> bool:
    """Returns whether the swarm's network that an engine's network stands for has that name."""
    return bool((copy.get("Labels") or {}).get(COPY_NAME_LABEL) == name)


def _of_copy(local: Json) -> Json:
    """What a node that cannot ask the leader knows of a swarm's network."""
    labels = dict(local.get("Labels") or {})
    shown = dict(local)
    shown["Id"], shown["Name"] = labels.pop(COPY_LABEL), labels.pop(COPY_NAME_LABEL, local["Name"])
    shown["Scope"], shown["Driver"], shown["Labels"] = "swarm", OVERLAY, labels
    return shown


def _is_predefined(network: Json) -> bool:
    return network["Name"] in ("host", "bridge") and network["Driver"] == network["Name"]


def _encoded(filters: Filters) -> str:
    return msgspec.json.encode(filters).decode()


def _parse_bool(text: str) -> bool:
    """Errors: `Invalid`, in Go's words."""
    if text in ("", "0", "f", "F", "false", "FALSE", "False"):
        return False
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    raise Invalid(f'invalid value for verbose: {text}: strconv.ParseBool: parsing "{text}": invalid syntax')
