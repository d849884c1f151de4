"""`skep net`: the swarm's networks as the leader knows them, and as nodes find them in their kernels."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import click
import msgspec

from skep.cli.swarm_options import HOST
from skep.client.api import ApiClient, default_host

_JSON = click.option("--json", "as_json", is_flag=True, help="Print the answer as it comes.")


@click.group()
def net() -> None:
    """Shows the swarm's networks: what a node has of them, which way a connection takes."""


@net.command("inspect")
@click.argument("node")
@HOST
@_JSON
def inspect_command(node: str, host: str | None, as_json: bool) -> None:
    """Says which networks and published ports a node has, who there is on them, what of that its kernel has,
    and how many connections it has led to tasks, with the bytes that these have carried.

    What is missing is made at once; with `nft list table ip skep` and `ip -d link` you see it all.
    """
    said = asyncio.run(_get(host, f"/skep/v1/nodes/{quote(node, safe='')}/net"))
    if as_json:
        _print_json(said)
        return
    for line in _inspected(said):
        click.echo(line)


def _inspected(said: Any) -> Iterator[str]:
    # A leader of an earlier skep does not say what kernels have.
    kernel = said.get("Kernel") or {"Connections": {}}
    led = {of: _led(count, kernel.get("Bytes", {}).get(of)) for of, count in kernel["Connections"].items()}
    ends = said["TunnelsEndAt"] or "no address that is known"
    yield f"node {said['Node']}: {said['State']}; its tunnels end at {ends}"
    for each in said["Networks"]:
        yield f"  network {each['Name']} ({each['Subnet']}): bridge {each['Bridge']}, tunnel {each['Tunnel']}"
        for who, address in sorted(each["Here"].items()):
            yield f"    {address:<18} {who}"
        for name, address in sorted(each.get("Services", {}).items()):
            if address in led:
                yield f"    {address:<18} service {name}{led[address]}"
    for port in said["Ports"]:
        running = "1 task runs" if port["Running"] == 1 else f"{port['Running']} tasks run"
        its = f"service {port['Service']}, its port {port['Target']}"
        yield f"  port {port['Port']}: {its}; {running}{led.get(port['Port'], '')}"
    if not said["Networks"] and not said["Ports"]:
        yield "  nobody there is on a network of the swarm, and no port is published"
    for text in said["Says"]:
        yield f"  it says: {text}"
    yield from _kernel(said.get("Kernel"), said.get("Unknown", "the leader's skep is too old to ask"))


def _led(count: int, carried: Any) -> str:
    """`carried` is None where the node's skep is too old to count bytes."""
    connections = f"; {count} connection{'s' * (count != 1)} from here"
    if carried is None:
        return connections
    return f"{connections}, {_size(carried['Received'])} received, {_size(carried['Sent'])} sent"


def _size(octets: int) -> str:
    """Returns a number of bytes with its unit, as Docker writes it: 1.2 MB are 1,200,000."""
    size, units = float(octets), ["B", "kB", "MB", "GB", "TB", "PB"]
    while round(size, 1) >= 1000 and len(units) > 1:
        size /= 1000
        units.pop(0)
    return f"{size:.{int(units[0] != 'B')}f} {units[0]}"


def _kernel(kernel: Any, unknown: str) -> Iterator[str]:
    if kernel is None:
        yield f"  what its kernel has is not known: {unknown}"
        return
    there = ", ".join(f"{kind} {count}" for kind, count in kernel["Objects"].items())
    if not kernel["Failures"] or there:
        yield f"  its kernel has: {there or 'nothing of them'}"
    for what, word in (("Missing", "missing there"), ("Surplus", "too much there")):
        for text in kernel[what]:
            yield f"  {word}: {text}"
        if more := kernel[f"{what}Count"] - len(kernel[what]):
            yield f"  {word}: {more} more"
    for text in kernel["Failures"]:
        yield f"  it finds: {text}"


@net.command("trace")
@click.argument("target", metavar="SERVICE:PORT")
@click.option("--from", "start", required=True, metavar="NODE|TASK", help="Where the connection begins.")
@HOST
@_JSON
def trace_command(target: str, start: str, host: str | None, as_json: bool) -> None:
    """Says which way a connection to a service takes, hop by hop, and why not to all of its tasks.

    From a node: as a client comes to a published port there (skep net trace web:8080 --from worker1). From a
    task: as one that asks for the service's name (skep net trace db:5432 --from web.3). For UDP: dns:53/udp.
    """
    service, colon, port = target.rpartition(":")
    if not colon or not service:
        raise click.BadParameter("name a service and a port: web:8080, dns:53/udp", param_hint="SERVICE:PORT")
    query = urlencode({"port": port, "from": start})
    said = asyncio.run(_get(host, f"/skep/v1/services/{quote(service, safe='')}/trace?{query}"))
    if as_json:
        _print_json(said)
        return
    for text in (said["Begin"], *said["Hops"], *said["Troubles"]):
        click.echo(text)


async def _get(host: str | None, path: str) -> Any:
    """Errors: `ApiError`, `Unavailable`."""
    client = ApiClient(host or default_host())
    try:
        return await client.json("GET", path)
    finally:
        await client.close()


def _print_json(said: Any) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(said)).decode())
