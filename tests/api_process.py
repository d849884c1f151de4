"""The daemon's whole API in the test's own process: a real leader on the store in memory, no etcd, no engine."""

from __future__ import annotations

import asyncio
import json as json_module
import random
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, UnixConnector
from yarl import URL

from skep.api.engine import LocalEngine
from skep.api.forward import LeaderForward
from skep.api.interfaces import InitRequest, JoinRequest, LocalNode, ReconnectRequest
from skep.api.routes import ApiContext
from skep.daemon import error_texts
from skep.daemon.founding import first_txns, found_swarm
from skep.daemon.serving import make_api
from skep.manager.ca.authority import join_token
from skep.manager.events import EventHub, Feed
from skep.manager.leader import Leader
from skep.manager.leader_context import LeaderContext
from skep.manager.manager_identity import ManagerIdentity
from skep.model.cluster import Cluster
from skep.model.event import Event
from skep.model.kernel_net import Carried
from skep.runtime.clock import SystemClock
from skep.runtime.errors import Conflict, NotManager, Unavailable
from skep.runtime.ids import id_source
from skep.runtime.metrics import Registry
from skep.runtime.stall import StallWatch
from skep.store import codec
from skep.store.election import Campaign
from skep.store.interfaces import Member, Store
from skep.store.memory import MemoryMembers, MemoryState, MemoryStore
from tests.leads import win

HOST = ("127.0.0.1", 2377)


class LoneManager:
    """A swarm's only manager (fulfils `api.interfaces.SwarmNode`); what would touch files or a port it refuses."""

    def __init__(self, leader: Leader, hub: EventHub) -> None:
        self.leader = leader
        self.hub = hub

    def local(self) -> LocalNode:
        return LocalNode("active", self.leader.node_id, HOST[0], True, "", ((self.leader.node_id, "x"),))

    @property
    def metrics(self) -> Registry:
        return Registry()

    async def carried(self) -> list[tuple[str, Carried]]:
        return []

    def manager(self) -> Leader:
        return self.leader

    def attachments(self) -> None:
        """It has no agent."""

    def leader_socket(self) -> str | None:
        return None

    async def leader_says(self) -> dict[str, Any]:
        raise NotManager(error_texts.WORKER)

    async def check_health(self) -> None: ...

    def seen_nodes(self) -> list[str]:
        return []

    async def enrol_for(self, body: bytes) -> bytes:
        raise NotManager(error_texts.WORKER)

    def join_tokens(self, cluster: Cluster) -> tuple[str, str]:
        return join_token(cluster.ca_cert_pem, "w"), join_token(cluster.ca_cert_pem, "m")

    async def init(self, request: InitRequest) -> str:
        raise Unavailable(error_texts.IN_SWARM)

    async def join(self, request: JoinRequest) -> None:
        raise Unavailable(error_texts.IN_SWARM)

    async def leave(self, force: bool) -> None:
        raise Unavailable("this manager stays")

    async def unlock(self, key: str) -> None:
        raise Conflict("swarm is not locked")

    async def backup(self) -> Any:
        raise Unavailable("no backups here")

    async def restore(self, request: Any, content: AsyncIterator[bytes]) -> tuple[str, list[str]]:
        raise Unavailable(error_texts.IN_SWARM)

    async def reconnect(self, request: ReconnectRequest) -> list[str]:
        return []

    def event_history(self, since_ns: int, until_ns: int | None, tasks: bool) -> list[Event]:
        return self.hub.history(since_ns, until_ns, tasks)

    def event_feed(self, tasks: bool) -> Feed:
        return self.hub.subscribe(tasks)


class Answer:
    """One answer."""

    def __init__(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.status = status
        self.body = body
        self.headers = headers

    @property
    def json(self) -> Any:
        return json_module.loads(self.body)

    @property
    def message(self) -> str:
        try:
            return str(self.json["message"])
        except (ValueError, KeyError, TypeError):
            return self.body.decode(errors="replace")


class Api:
    """A client of the API, and what is behind it."""

    def __init__(
        self,
        socket: str,
        session: ClientSession,
        node: LoneManager,
        rng: random.Random,
        leading: asyncio.Future[None],
        state: MemoryState,
    ) -> None:
        self.leading = leading  # ends with the lead
        self.state = state  # what is stored
        self.socket = socket
        self.session = session
        self.node = node
        self.new_id = id_source(rng)

    @property
    def leader(self) -> Leader:
        return self.node.leader

    async def ask(self, method: str, path: str, body: Any = None, **options: Any) -> Answer:
        """`body` is bytes as they are, or what becomes JSON."""
        data = body if body is None or isinstance(body, bytes) else json_module.dumps(body).encode()
        url = URL("http://skep" + path, encoded=True)
        async with self.session.request(method, url, data=data, **options) as answer:
            return Answer(answer.status, await answer.read(), answer.headers)

    async def version_of(self, path: str) -> int:
        return int((await self.ask("GET", path)).json["Version"]["Index"])


@asynccontextmanager
async def running_api(
    engine_socket: str | None = None,
    prepare: Callable[[MemoryState], None] = lambda state: None,
    safe_mode: bool = False,
    store: Store | None = None,
) -> AsyncIterator[Api]:
    """Runs the API of a manager that has just made a swarm of its own; `prepare` changes what it finds. In a
    store in memory, or the given one."""
    rng, clock = random.Random(7), SystemClock()
    new_id = id_source(rng)
    state = MemoryState()
    store = store or MemoryStore(state)
    membership, _, puts = found_swarm(InitRequest(), "mg0", HOST, HOST, clock.now(), new_id)
    for txn in first_txns(puts):
        await store.commit(txn)
    state.members[membership.node_id] = Member(1, membership.node_id, False)
    prepare(state)
    leadership = await win(Campaign(store, codec.LEADER_KEY, membership.node_id))

    async def probe(node_id: str) -> bool:
        return True

    hub = EventHub(clock, "h")
    team = ManagerIdentity(
        membership.node_id, MemoryMembers(MemoryStore(state), state), probe, safe_mode=safe_mode
    )
    leader = await Leader.start(
        store,
        leadership,
        LeaderContext(clock, new_id, lambda: "secret", hub, [membership.advertise], lambda *asked: b"", team),
    )
    leading = asyncio.ensure_future(leader.run())
    node, engine = LoneManager(leader, hub), LocalEngine(engine_socket)
    api = make_api(ApiContext(node, engine, "mg0", StallWatch(), LeaderForward(node)))  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory(prefix="skt") as directory:
        socket = str(Path(directory) / "api.sock")
        await api.start()
        await api.listen_unix(Path(socket))
        try:
            async with ClientSession(connector=UnixConnector(socket, limit=0)) as session:
                yield Api(socket, session, node, rng, leading, state)
        finally:
            leading.cancel()
            await asyncio.gather(leading, return_exceptions=True)
            await api.close()
            await engine.close()
            await leadership.resign()
