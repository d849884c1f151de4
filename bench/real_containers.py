"""Real containers, Docker's own swarm against skep, on one private engine in the same run.

    sudo .venv/bin/python bench/real_containers.py [--replicas 10,50,100] [--rounds 2]

Measures, by asking the engine itself, from the request to create a service until all its containers run.
The two take turns, so that what else the machine does hits both.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from skep.client.api import ApiClient

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests.e2e.hosts import busybox_into, free_port  # noqa: E402

POLL_S = 0.05
TIMEOUT_S = 180.0


def spec(name: str, image: str, replicas: int) -> dict[str, object]:
    return {
        "Name": name,
        "Mode": {"Replicated": {"Replicas": replicas}},
        "TaskTemplate": {"ContainerSpec": {"Image": image, "Args": ["sleep", "1d"], "StopGracePeriod": 0}},
    }


async def running(engine: ApiClient, name: str) -> int:
    path = '/containers/json?filters={"label":["com.docker.swarm.service.name=%s"],"status":["running"]}'
    return len(await engine.json("GET", (path % name).replace('"', "%22")))


async def measure(swarm: ApiClient, engine: ApiClient, image: str, replicas: int) -> float:
    """Returns the seconds from the request until the engine runs all replicas; removes them again."""
    name = f"b{replicas}"
    began = time.monotonic()
    created = await swarm.json("POST", "/services/create", spec(name, image, replicas))
    while await running(engine, name) < replicas:
        if time.monotonic() - began > TIMEOUT_S:
            raise SystemExit(f"{replicas} containers did not run within {TIMEOUT_S:.0f} s")
        await asyncio.sleep(POLL_S)
    took = time.monotonic() - began
    await swarm.raw("DELETE", f"/services/{created['ID']}")
    while await engine.json("GET", "/containers/json?all=1"):
        await asyncio.sleep(0.2)
    return took


async def with_docker(engine: ApiClient, image: str, counts: list[int]) -> list[float]:
    port = free_port()
    await engine.raw(
        "POST", "/swarm/init", {"ListenAddr": f"127.0.0.1:{port}", "AdvertiseAddr": f"127.0.0.1:{port}"}
    )
    try:
        return [await measure(engine, engine, image, count) for count in counts]
    finally:
        await engine.raw("POST", "/swarm/leave?force=1")


async def with_skep(
    engine: ApiClient, socket: Path, directory: Path, image: str, counts: list[int]
) -> list[float]:
    host = f"unix://{directory}/skep.sock"
    command = [Path(sys.executable).with_name("skepd"), "--name", "bench", "--state-dir", directory / "state"]
    command += ["--host", host, "--engine", f"unix://{socket}", "--log-level", "warning"]
    daemon = subprocess.Popen(command)
    client = ApiClient(host)
    try:
        await client.wait_up(20)
        address = f"127.0.0.1:{free_port()}"
        await client.raw("POST", "/swarm/init", {"ListenAddr": address, "AdvertiseAddr": address})
        times = [await measure(client, engine, image, count) for count in counts]
        await client.raw("POST", "/swarm/leave?force=1")
        return times
    finally:
        await client.close()
        daemon.terminate()
        daemon.wait(20)


async def compare(directory: Path, socket: Path, counts: list[int], rounds: int) -> None:
    image = busybox_into(str(socket))
    engine = ApiClient(f"unix://{socket}")
    found: dict[str, list[list[float]]] = {"docker": [], "skep": []}
    for _ in range(rounds):
        found["docker"].append(await with_docker(engine, image, counts))
        found["skep"].append(await with_skep(engine, socket, directory, image, counts))
    await engine.close()
    click.echo(f"{'replicas':>8} {'docker swarm':>14} {'skep':>8} {'ratio':>6}   (best of {rounds})")
    for n, count in enumerate(counts):
        docker, skep = (min(times[n] for times in found[name]) for name in ("docker", "skep"))
        click.echo(f"{count:>8} {docker:>12.2f} s {skep:>6.2f} s {skep / docker:>6.2f}")


@click.command()
@click.option("--replicas", default="10,50,100", show_default=True)
@click.option("--rounds", default=2, show_default=True)
def main(replicas: str, rounds: int) -> None:
    """Compares starting times; needs root and Debian's docker.io."""
    directory = Path(tempfile.mkdtemp(prefix="skb", dir="/tmp"))
    script, bridge = str(ROOT / "scripts/engine.sh"), f"skb{os.getpid() % 100000}"
    try:
        subprocess.run([script, "start", str(directory / "e"), bridge], check=True)
        socket = directory / "e/docker.sock"
        asyncio.run(compare(directory, socket, [int(n) for n in replicas.split(",")], rounds))
    finally:
        subprocess.run([script, "stop", str(directory / "e")], check=True)
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
