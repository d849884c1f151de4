"""What an upgrade of the managers has still to do, read from the swarm: pure.

The plan is kept in the swarm itself, in labels of the managers' nodes, each written together with the role
it belongs to: whoever runs the command again, from wherever, finds how far it came.

    planned   nothing was done with it yet
    demoted   it is a worker, or becomes one; the command is run, perhaps again
    promoted  the command succeeded; it is a manager again, or becomes one
    done
    finished  on one node, when all are done: what is left is to remove the labels
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from skep.model.node import UPGRADE_LABEL

LABEL, CLAIM = UPGRADE_LABEL, f"{UPGRADE_LABEL}.run"
PLANNED, DEMOTED, PROMOTED, DONE, FINISHED = "planned", "demoted", "promoted", "done", "finished"
MANAGERS_MIN = 3  # of two, the other alone is no majority while one is away
FIELDS = ("name", "id", "addr")


class Seat(Struct, frozen=True, kw_only=True):
    """A node as an upgrade sees it."""

    id: str
    name: str
    addr: str
    role: str
    is_ready: bool
    is_member: bool
    is_leader: bool
    is_reachable: bool
    stage: str = ""
    claim: str = ""


def seat_of(node: dict[str, Any]) -> Seat:
    """Returns a node of the API's."""
    manager = node.get("ManagerStatus") or {}
    labels = node["Spec"].get("Labels") or {}
    return Seat(
        id=node["ID"],
        name=node["Description"].get("Hostname") or node["ID"],
        addr=node["Status"].get("Addr", ""),
        role=node["Spec"]["Role"],
        is_ready=node["Status"]["State"] == "ready",
        is_member=bool(manager),
        is_leader=bool(manager.get("Leader")),
        is_reachable=manager.get("Reachability") == "reachable",
        stage=labels.get(LABEL, ""),
        claim=labels.get(CLAIM, ""),
    )


def planned(seats: Iterable[Seat]) -> list[Seat]:
    """Returns the managers to upgrade in order, those done first, whoever leads last."""
    rank = {DONE: 0, FINISHED: 0, PROMOTED: 1, DEMOTED: 2}
    found = [seat for seat in seats if seat.stage or seat.role == "manager"]
    return sorted(found, key=lambda s: (rank.get(s.stage, 3), s.is_leader, s.name, s.id))


def next_seat(seats: Iterable[Seat]) -> Seat | None:
    """Returns which manager is to be looked after now; None when all are done."""
    return next((seat for seat in planned(seats) if seat.stage not in (DONE, FINISHED)), None)


def keeper_of(seats: Iterable[Seat]) -> Seat:
    """Returns the node whose label says who runs the upgrade."""
    plan = sorted(planned(seats), key=lambda seat: seat.id)
    return next((seat for seat in plan if seat.claim), plan[0])


def too_few(seats: Iterable[Seat]) -> str:
    """Returns why no manager can be spared; empty where one can."""
    count = sum(1 for seat in seats if seat.role == "manager" or seat.is_member)
    if count >= MANAGERS_MIN:
        return ""
    return (
        f"the swarm has {count} manager{'s' if count != 1 else ''}, and while one is upgraded the rest must"
        f" still be a majority: it takes {MANAGERS_MIN}"
    )


def away(seats: Iterable[Seat], about: Seat) -> str:
    """Returns which managers are missed, `about` among them unless it is demoted; empty where none is."""
    names = [
        seat.name
        for seat in seats
        if (seat.role == "manager" or seat.is_member)
        and not (seat.is_member and seat.is_reachable)
        and not (seat.id == about.id and about.stage == DEMOTED)
    ]
    return f"not every manager is reachable: {', '.join(sorted(names))}" if names else ""


def filled(command: str, seat: Seat) -> str:
    """Returns the command for a node; its names are quoted for a shell."""
    return re.sub("{(" + "|".join(FIELDS) + ")}", lambda found: shlex.quote(getattr(seat, found[1])), command)


def names_the_node(command: str) -> bool:
    """True when the command differs from node to node."""
    return any("{" + field + "}" in command for field in FIELDS)


def plan_text(seats: Iterable[Seat], command: str) -> list[str]:
    """Returns the plan's numbered lines."""
    lines = []
    for number, seat in enumerate(planned(seats), 1):
        run = f"run `{filled(command, seat)}`"
        back = "promote it, wait until it is Reachable"
        if seat.stage in (DONE, FINISHED):
            steps = "done"
        elif seat.stage == PROMOTED:
            steps = "wait until it is Reachable"
        elif seat.stage == DEMOTED:
            steps = f"it is demoted: {run}, wait until it is Ready, {back}"
        else:
            leader = " (leads: another manager takes over)" if seat.is_leader else ""
            steps = f"demote it{leader}, {run}, wait until it is Ready, {back}"
        lines.append(f"{number:3}. {seat.name} ({seat.id}): {steps}")
    return lines


def how_to_go_on(seat: Seat) -> str:
    """Returns what to do after an upgrade stopped at this manager."""
    state = {
        PLANNED: "Nothing was done with it.",
        DEMOTED: "It is a worker for now; the other managers carry the swarm.",
        PROMOTED: "Its command succeeded, and it was told to be a manager again.",
    }.get(seat.stage, "")
    return (
        f"{state} Set right what is wrong and run the command again, from any machine: it goes on with"
        f" {seat.name}. To give up instead: docker node promote {seat.name}, then docker node update"
        f" --label-rm {LABEL} for each manager."
    ).lstrip()
