"""What it costs to ask many machines: `python bench/machines.py [--machines 2300]`.

A user's store of so many machines, all at one server of this script's, which speaks TLS as skepd does and
answers what skepd answers; of twenty one is dead. `skep machine join` has the others join, `skep machine
ls` lists all: seconds of wall and processor time, and the most memory, of the command alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

from aiohttp import web

from skep.machine import certs
from skep.machine.authority import authority, write_certificates
from skep.machine.record import EngineWish, Machine, SshPlace
from skep.machine.store import MachineStore

PORT, SILENT_PORT, DEAD_PORT = 23760, 23761, 23762
SILENT_OF = 20  # one of so many, in turns: takes a connection and says nothing, or does not even take it
SERVERS = 2  # one would be what is measured


def serve(directory: Path, port: int) -> None:
    """Answers for all machines, until it is killed."""

    async def info(request: web.Request) -> web.Response:
        manager = request.host.startswith("127.0.0.2:")
        swarm: dict[str, object] = {"LocalNodeState": "inactive", "NodeID": ""}
        if manager:
            swarm = {
                "LocalNodeState": "active",
                "NodeID": "manager",
                "ControlAvailable": True,
                "RemoteManagers": [{"NodeID": "manager", "Addr": "127.0.0.2:2377"}],
            }
        return web.json_response({"Swarm": swarm})

    async def version(request: web.Request) -> web.Response:
        return web.json_response(
            {"Version": "28.5.2", "Platform": {"Name": "skep 0.1.0"}, "Components": [{"Name": "Engine"}]}
        )

    async def swarm(request: web.Request) -> web.Response:
        return web.json_response({"JoinTokens": {"Worker": "SWMTKN-1-w", "Manager": "SWMTKN-1-m"}})

    async def nodes(request: web.Request) -> web.Response:
        return web.json_response([{"ID": "manager"}])

    async def join(request: web.Request) -> web.Response:
        await request.read()
        return web.Response()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.pem", directory / "server-key.pem")
    context.load_verify_locations(directory / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    app = web.Application()
    app.add_routes([web.get("/info", info), web.get("/version", version), web.get("/swarm", swarm)])
    app.add_routes([web.get("/nodes", nodes), web.post("/swarm/join", join)])
    web.run_app(app, port=port, ssl_context=context, reuse_port=True, print=None, backlog=4096)


def be_silent() -> None:
    """Takes connections and says nothing, as a host that hangs; at another port it takes none."""

    async def run() -> None:
        async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(3600)

        with socket.socket() as dead, socket.socket() as first, socket.socket() as second:
            # Of a queue that is full the kernel lets SYNs go by, as if nobody were there.
            dead.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            dead.bind(("0.0.0.0", DEAD_PORT))
            dead.listen(0)
            for each in (first, second):
                each.setblocking(False)
                each.connect_ex(("127.0.0.1", DEAD_PORT))
            async with await asyncio.start_server(nothing, "0.0.0.0", SILENT_PORT, backlog=4096) as server:
                await server.serve_forever()

    asyncio.run(run())


def fill(store: MachineStore, count: int) -> None:
    """Makes machines that all show one certificate."""
    own = authority(store, "bench", time.time())
    addresses = ("127.0.0.1", "127.0.0.2")
    server = certs.new_server(own.ca, "bench", addresses, time.time())
    names = ["mg0", *(f"w{number}" for number in range(count))]
    for number, name in enumerate(names):
        port = PORT
        if number % SILENT_OF == 1:
            port = SILENT_PORT if number % (2 * SILENT_OF) == 1 else DEAD_PORT
        address = addresses[1] if name == "mg0" else addresses[0]
        wish = EngineWish(port=port)
        store.add(
            Machine(name=name, driver="generic", ssh=SshPlace(address=address), engine=wish, skepd=True)
        )
        if number == 0:
            write_certificates(store, name, own, server)
            continue
        for file in ("ca.pem", "cert.pem", "key.pem"):
            shutil.copy(store.directory("mg0") / file, store.directory(name) / file)


def measured(store: MachineStore, *words: str) -> None:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    environment = {**os.environ, "MACHINE_STORAGE_PATH": str(store.path)}
    command = [sys.executable, "-c", "from skep.cli.main import main; main()", *words]
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    said = {
        "command": " ".join(words),
        "status": done.returncode,
        "lines": len(done.stdout.splitlines()),
        "wall_s": round(time.monotonic() - began, 1),
        "cpu_s": round(cpu_s, 1),
        "most_memory_mb": after.ru_maxrss // 1024,
        "last": (done.stderr or done.stdout).splitlines()[-1][:150],
    }
    print(json.dumps(said))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--machines", type=int, default=2300)
    count = parser.parse_args().machines
    with tempfile.TemporaryDirectory() as directory:
        store = MachineStore(Path(directory) / "machine")
        fill(store, count)
        made = get_context("spawn").Process
        started = [made(target=serve, args=(store.directory("mg0"), PORT)) for _ in range(SERVERS)]
        started.append(made(target=be_silent))
        for process in started:
            process.start()
        time.sleep(3)
        try:
            measured(store, "machine", "ls")
            measured(
                store, "machine", "join", "--attempts", "1", "--to", "mg0", "--workers", f"w[0:{count - 1}]"
            )
        finally:
            for process in started:
                process.kill()
                process.join()


if __name__ == "__main__":
    main()
