"""What `skep dashboard` serves to its page, of a made-up swarm, for tests of the page alone.

    python -m tests.dashboard_page_server [--nodes 5] [--tasks 40] [--port 8000] [--read-only] [--hostile]

Streams can be cut, changes made and orders refused as a test likes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import struct
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from aiohttp import web

import skep.web
from skep.web.dashboard import _add_headers  # the page has to do with the headers that it gets
from tests.dashboard_board import AT, HOSTILE, MadeSwarm

STATIC = Path(skep.web.__file__).parent / "static"
ACTIONS = ["scale", "force", "rollback", "availability", "role"]


class PageServer:
    """Serves in a thread of its own, from `start` to `stop`."""

    def __init__(self, swarm: MadeSwarm, read_only: bool = False) -> None:
        self.swarm = swarm
        self.read_only = read_only
        self.may = ACTIONS
        self.orders: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.refusal = ""  # what orders are answered with
        self.is_away = False
        self.asked_after: list[str] = []  # where streams were resumed
        self._streams: dict[asyncio.Queue[tuple[str, Any]], asyncio.Task[Any]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ready = threading.Event()
        self._port = 0

    def start(self, port: int = 0) -> str:
        """Returns the page's address."""
        self._port = port
        self._thread.start()
        assert self._ready.wait(10), "the page's server did not start"
        return f"http://127.0.0.1:{self._port}/"

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def tell(self, event: str, said: Any) -> None:
        """Says an event to all streams."""
        self._call(lambda: [queue.put_nowait((event, said)) for queue in self._streams])

    def cut(self, away: bool) -> None:
        """Ends all streams; `away`: nothing is answered from now on."""
        self.is_away = away
        self._call(lambda: [task.cancel() for task in self._streams.values()])

    def _call(self, act: Callable[[], Any]) -> None:
        async def run() -> None:
            act()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        runner = self._loop.run_until_complete(self._listen())
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    async def _listen(self) -> web.AppRunner:
        app = web.Application(middlewares=[self._around])
        app.on_response_prepare.append(_add_headers)
        app.router.add_static("/static", STATIC)
        for path, handler in (
            ("/", self._page),
            ("/session", self._session),
            ("/board", self._board),
            ("/board/stream", self._stream),
            ("/api/events", self._events),
            ("/api/tasks", self._tasks),
            ("/api/networks", self._networks),
            ("/api/nodes/{id}", self._node),
            ("/api/services/{id}", self._service),
            ("/api/services/{id}/logs", self._logs),
            ("/api/skep/v1/nodes/usage", self._usage),
            ("/api/skep/v1/{kind}/{id}/explain", self._explain),
        ):
            app.router.add_get(path, handler)
        app.router.add_post("/api/{path:.*}", self._order)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self._port).start()
        self._port = runner.addresses[0][1]
        return runner

    @web.middleware
    async def _around(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Coroutine[Any, Any, web.StreamResponse]],
    ) -> web.StreamResponse:
        if self.is_away:
            assert request.transport is not None
            request.transport.abort()
        return await handler(request)

    async def _page(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(STATIC / "index.html")

    async def _session(self, request: web.Request) -> web.StreamResponse:
        may = [] if self.read_only else self.may
        return web.json_response(
            {"csrf": "token1", "readOnly": self.read_only, "host": "unix:///run/skep.sock", "may": may}
        )

    async def _board(self, request: web.Request) -> web.StreamResponse:
        answer = web.json_response(self.swarm.snapshot())
        answer.enable_compression()
        return answer

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        self.asked_after.append(request.headers.get("Last-Event-ID") or request.query["after"])
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b": here\n\n")
        queue: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        task = asyncio.current_task()
        assert task is not None
        self._streams[queue] = task
        try:
            if self.asked_after[-1] != f"{self.swarm.epoch}:{self.swarm.seq}":
                queue.put_nowait(("snapshot", self.swarm.snapshot()))
            while True:
                event, said = await queue.get()
                text = (
                    f"id: {self.swarm.epoch}:{self.swarm.seq}\nevent: {event}\ndata: {json.dumps(said)}\n\n"
                )
                await response.write(text.encode())
        finally:
            del self._streams[queue]

    async def _tasks(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self.swarm.task_list(json.loads(request.query.get("filters", "{}"))))

    async def _networks(self, request: web.Request) -> web.StreamResponse:
        return web.json_response([{"Id": "net1", "Name": "shop"}])

    async def _node(self, request: web.Request) -> web.StreamResponse:
        return self._found(self.swarm.node_json(request.match_info["id"]), "node")

    async def _service(self, request: web.Request) -> web.StreamResponse:
        return self._found(self.swarm.service_json(request.match_info["id"]), "service")

    def _found(self, said: Any, kind: str) -> web.Response:
        return web.json_response(
            said or {"message": f"{kind} not found: {HOSTILE}"}, status=200 if said else 404
        )

    async def _usage(self, request: web.Request) -> web.StreamResponse:
        usage = {"At": "", "CPUCores": 1.25, "MemoryUsedBytes": 3 << 30, "Load1": 0.75}
        return web.json_response({"Nodes": [{"ID": row[0], "Usage": usage} for row in self.swarm.nodes]})

    async def _explain(self, request: web.Request) -> web.StreamResponse:
        group = {
            "Filter": "resources",
            "Count": 3,
            "Nodes": ["node1"],
            "Text": f"3 nodes lack memory {HOSTILE}",
        }
        task = {
            "ID": request.match_info["id"],
            "Name": "search.901",
            "Node": "",
            "State": "pending",
            "DesiredState": "running",
            "Error": f"no suitable node (insufficient resources on 3 nodes) {HOSTILE}",
            "Sentences": ["It has no node: each is refused by a filter."],
            "Nodes": [group],
        }
        if request.match_info["kind"] == "tasks":
            return web.json_response(task)
        said = {"ID": "x", "Name": "search", "Mode": "replicated", "Sentences": ["It lacks 2 tasks of 14."]}
        return web.json_response({**said, "Tasks": [task], "Nodes": [group]})

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/vnd.docker.multiplexed-stream"})
        await response.prepare(request)
        for n in range(10_000):
            details = f"com.docker.swarm.node.id={self.swarm.nodes[0][0]},com.docker.swarm.task.id=t0x1a00"
            line = f"2026-09-21T12:53:20.{n:09d}Z {details} GET /{n} {HOSTILE} \x1b[31m200\x1b[0m\n".encode()
            frame = struct.pack(">BxxxI", 2 if n % 5 == 4 else 1, len(line)) + line
            await response.write(frame[:11])  # a frame may come in pieces
            await response.write(frame[11:])
            await asyncio.sleep(0 if n < 30 else 0.5)
        return response

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for n, (kind, action) in enumerate(
            (("node", "update"), ("service", "create"), ("service", "update"))
        ):
            actor = {"ID": f"s{n}", "Attributes": {"name": HOSTILE, "updatestate.new": "updating"}}
            event = {"Type": kind, "Action": action, "Actor": actor, "time": int(AT) + n}
            await response.write(json.dumps(event).encode() + b"\n")
        await asyncio.sleep(3600)
        return response

    async def _order(self, request: web.Request) -> web.StreamResponse:
        assert request.headers["X-Skep-CSRF"] == "token1"
        self.orders.append((request.match_info["path"], dict(request.query), await request.json()))
        if self.refusal:
            return web.json_response({"message": self.refusal}, status=400)
        return web.json_response({"Warnings": None})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=40)
    parser.add_argument("--services", type=int, default=8)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--read-only", action="store_true")
    parser.add_argument("--hostile", action="store_true")
    given = parser.parse_args()
    server = PageServer(MadeSwarm(given.nodes, given.tasks, given.services, given.hostile), given.read_only)
    print(server.start(given.port), flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
