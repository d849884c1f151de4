"""A swarm in numbers, as its managers' API has them: no list of all tasks is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from skep.machine.record import Machine
from skep.machine.swarm import TEXT_BYTES_MAX, MachineMember
from skep.runtime.errors import NotFound, SkepError, Unavailable
from skep.runtime.texts import printable


class ServiceStats(Struct, frozen=True):
    name: str
    running: int
    desired: int


class SwarmStats(Struct, frozen=True):
    """`nodes` by their states (ready, down, …), `drained` of them all."""

    nodes: dict[str, int]
    managers: int
    reachable: int
    drained: int
    services: tuple[ServiceStats, ...]


async def asked(managers: Sequence[tuple[Machine, Path]]) -> SwarmStats:
    """Returns what the first of the managers says that answers; each is with its directory. Errors:
    `Unavailable`, with the last reason."""
    last: SkepError = Unavailable("no manager was named")
    for machine, directory in managers:
        member = MachineMember(machine, directory)
        try:
            return read_stats(await member.nodes(), await member.services())
        except SkepError as error:
            last = error
    raise Unavailable(f"no manager answers: {last}")


def read_stats(nodes: list[dict[str, Any]], services: list[dict[str, Any]]) -> SwarmStats:
    """Returns the numbers of /nodes and /services?status=true. Errors: `Unavailable` for what is none."""
    try:
        managers = [each["ManagerStatus"] for each in nodes if each.get("ManagerStatus")]
        return SwarmStats(
            nodes=dict(Counter(printable(str(each["Status"]["State"]), TEXT_BYTES_MAX) for each in nodes)),
            managers=len(managers),
            reachable=sum(each["Reachability"] == "reachable" for each in managers),
            drained=sum(each["Spec"]["Availability"] == "drain" for each in nodes),
            services=tuple(
                ServiceStats(
                    printable(str(each["Spec"]["Name"]), TEXT_BYTES_MAX),
                    int(each["ServiceStatus"]["RunningTasks"]),
                    int(each["ServiceStatus"]["DesiredTasks"]),
                )
                for each in services
            ),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Unavailable(f"what answers is no swarm's manager: it lacks {error}") from error


def stats_lines(stats: SwarmStats, service: str | None) -> list[str]:
    """Returns what users see, of all or of one service. Errors: `NotFound`."""
    if service is not None:
        for each in stats.services:
            if each.name == service:
                return [f"{each.name} {each.running}/{each.desired}"]
        raise NotFound(f"no such service: {service}")
    count = sum(stats.nodes.values())
    states = ", ".join(f"{number} {state}" for state, number in sorted(stats.nodes.items()))
    width = max((len(each.name) for each in stats.services), default=0)
    running = sum(each.running for each in stats.services)
    desired = sum(each.desired for each in stats.services)
    return [
        f"nodes      {count} ({states}; {stats.drained} drained)",
        f"managers   {stats.managers} ({stats.reachable} reachable)",
        f"services   {len(stats.services)}",
        f"tasks      {running} running of {desired}",
        *(
            f"  {each.name.ljust(width)}  {each.running}/{each.desired}"
            for each in sorted(stats.services, key=lambda each: (each.running - each.desired, each.name))
        ),
    ]
