"""A swarm's leader behind its real port and its real API, and nodes that say what they like."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from skep.daemon.connection_dispatch import ConnectionDispatch
from skep.manager.ca.authority import Authority
from skep.model.node import NodeDescription
from skep.rpc.certificates import NodeKeys, new_key_and_request
from skep.rpc.interfaces import Connection
from skep.rpc.link import FrameLink, connect
from skep.rpc.link_server import LinkServer
from skep.rpc.messages import (
    Assign,
    FromAgent,
    FromManager,
    Goodbye,
    Register,
    Registered,
    decode_from_manager,
    encode,
)
from skep.rpc.tls import client_context, server_context
from skep.store.interfaces import Store
from tests.api_process import Api, running_api

WAIT_S = 10.0


class Node:
    """A worker with a certificate; `heard` is what it was told (fulfils `rpc.interfaces.Handler`)."""

    def __init__(self, node_id: str, keys: NodeKeys, port: int) -> None:
        self.id = node_id
        self._context = client_context(keys)
        self._port = port
        self._link: FrameLink | None = None
        self.heard: list[FromManager] = []
        self.is_closed = False

    async def connect(self) -> Node:
        self.heard, self.is_closed = [], False
        self._link = await connect("127.0.0.1", self._port, self._context, self)
        return self

    async def register(self, description: NodeDescription | None = None) -> Node:
        """Comes as a good node does."""
        await self.connect()
        self.say(Register(description or NodeDescription(hostname="w")))
        await until(lambda: any(isinstance(each, Registered) for each in self.heard), "it is registered")
        return self

    def say(self, said: FromAgent | bytes) -> None:
        assert self._link is not None
        self._link.send(said if isinstance(said, bytes) else encode(said))

    async def refusal(self) -> str:
        """Returns why the manager ends the session."""
        await until(lambda: self.is_closed, "the session ends")
        reasons = [each for each in self.heard if isinstance(each, Goodbye)]
        assert [each.kind for each in reasons] == ["refused"], self.heard
        return reasons[0].message

    @property
    def task_ids(self) -> list[str]:
        return [task.id for each in self.heard if isinstance(each, Assign) for task in each.tasks]

    def close(self) -> None:
        if self._link is not None:
            self._link.close()

    # rpc.port.Handler

    def connected(self, connection: Connection) -> None: ...

    def frame(self, data: bytes) -> None:
        self.heard.append(decode_from_manager(data))

    def closed(self, reason: str) -> None:
        self.is_closed = True


class Port:
    """`errors` are exceptions that reached the loop: nobody has caught them."""

    def __init__(self, api: Api, server: LinkServer, authority: Authority) -> None:
        self.api = api
        self._server = server
        self._authority = authority
        self.errors: list[str] = []
        self._nodes: list[Node] = []

    async def enrolled(self) -> Node:
        """A node that was taken in."""
        node_id = self.api.new_id()
        await self.api.leader.nodes.add(node_id, "worker", "active", NodeDescription(hostname="w"), "")
        node = Node(node_id, self.keys(node_id, "worker"), self._server.port)
        self._nodes.append(node)
        return node

    def keys(self, node_id: str, role: str) -> NodeKeys:
        return keys_of(self._authority, node_id, role)

    async def check_unharmed(self) -> None:
        """The leader leads, and answers for everything."""
        assert not self.errors, self.errors
        assert not self.api.leading.done(), self.api.leading
        for path in ("/tasks", "/nodes", "/services", "/networks", "/info"):
            answer = await self.api.ask("GET", path)
            assert answer.status == 200, (path, answer.message)
            assert answer.json is not None

    async def message_of(self, node: Node) -> str:
        answer = await self.api.ask("GET", f"/nodes/{node.id}")
        return str(answer.json["Status"].get("Message", ""))

    async def service(self, name: str, replicas: int = 1, **task: object) -> str:
        spec = {
            "Name": name,
            "TaskTemplate": {"ContainerSpec": {"Image": "busybox"}, **task},
            "Mode": {"Replicated": {"Replicas": replicas}},
        }
        answer = await self.api.ask("POST", "/services/create", spec)
        assert answer.status == 201, answer.message
        return str(answer.json["ID"])

    def close(self) -> None:
        for node in self._nodes:
            node.close()


def keys_of(authority: Authority, node_id: str, role: str) -> NodeKeys:
    key, request = new_key_and_request()
    certificate = authority.sign(request, node_id, role, "c", time.time(), 3600)
    return NodeKeys(key, certificate, authority.ca_pem)


async def until(test: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not test():
        assert time.monotonic() < deadline, f"not within {WAIT_S:g} s: {what}"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def running_port(store: Store | None = None) -> AsyncIterator[Port]:
    async with running_api(store=store) as api:
        cluster = api.leader.view.cluster
        assert cluster is not None
        authority, server, leader = (
            Authority(cluster.ca_cert_pem, cluster.ca_key_pem),
            LinkServer(),
            api.leader,
        )
        port = Port(api, server, authority)
        asyncio.get_running_loop().set_exception_handler(lambda _, what: port.errors.append(repr(what)))
        context = server_context(keys_of(authority, leader.node_id, "manager"))
        await server.listen(
            "127.0.0.1",
            0,
            context,
            lambda connection: ConnectionDispatch(connection, leader.sessions.open, None, leader.logs.accept),
        )
        try:
            yield port
        finally:
            port.close()
            await server.close()
