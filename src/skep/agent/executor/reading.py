"""What a container's inspection, or the listing, says of its task. Pure."""

from __future__ import annotations

import re
from datetime import datetime

from msgspec.structs import replace

from skep.agent.executor.engine import Json
from skep.agent.executor.interfaces import Observation
from skep.model.states import COMPLETE, FAILED, READY, RUNNING, STARTING

_EXITED = re.compile(r"Exited \((\d+)\)")  # as the listing's status begins
_UNCLEAR = "the container has ended, and the engine does not say how"


def observation_of(task_id: str, inspected: Json, now: float) -> Observation:
    """Returns a task's state as its container shows it."""
    state, container_id = inspected["State"], str(inspected["Id"])
    if state["Status"] == "created":
        return Observation(task_id, READY, now, "prepared", container_id=container_id)
    if not state["Running"]:
        return ended(task_id, container_id, int(state["ExitCode"]), now, state.get("Error") or "")
    starting = health_of(inspected) in ("starting", "unhealthy")  # never RUNNING on the way to its end
    seen = _up(task_id, container_id, starting, now)
    return replace(seen, pid=int(state["Pid"]), ports=_ports(inspected))


def listed_observation_of(task_id: str, listed: Json, now: float) -> Observation:
    """Returns a task's state as the listing of containers shows it: without the process id."""
    state, status, container_id = listed["State"], str(listed["Status"]), str(listed["Id"])
    if state == "created":
        return Observation(task_id, READY, now, "prepared", container_id=container_id)
    if state not in ("running", "paused", "restarting"):
        if (exited := _EXITED.match(status)) is not None:
            return ended(task_id, container_id, int(exited[1]), now)
        return Observation(task_id, FAILED, now, "started", _UNCLEAR, container_id=container_id)
    starting = "(health: starting)" in status or "(unhealthy)" in status
    return replace(_up(task_id, container_id, starting, now), ports=_listed_ports(listed))


def _up(task_id: str, container_id: str, starting: bool, now: float) -> Observation:
    state, message = (STARTING, "starting") if starting else (RUNNING, "started")
    return Observation(task_id, state, now, message, container_id=container_id)


def ended(task_id: str, container_id: str, exit_code: int, now: float, cause: str = "") -> Observation:
    """Returns what an exit means: complete with status 0, failed with any other."""
    if exit_code == 0:
        return Observation(task_id, COMPLETE, now, "finished", container_id=container_id)
    error = f"task: non-zero exit ({exit_code})" + (f": {cause}" if cause else "")
    return Observation(task_id, FAILED, now, "started", error, container_id=container_id, exit_code=exit_code)


def health_of(inspected: Json) -> str:
    """Returns starting, healthy or unhealthy; an empty text where there is no health check."""
    return str((inspected["State"].get("Health") or {}).get("Status", ""))


def _ports(inspected: Json) -> tuple[tuple[str, int, int], ...]:
    found = set()
    for key, bindings in (inspected.get("NetworkSettings", {}).get("Ports") or {}).items():
        target, _, protocol = key.partition("/")
        for binding in bindings or []:
            found.add((protocol, int(target), int(binding["HostPort"])))
    return tuple(sorted(found))


def _listed_ports(listed: Json) -> tuple[tuple[str, int, int], ...]:
    ports = listed.get("Ports") or []
    found = {
        (str(p["Type"]), int(p["PrivatePort"]), int(p["PublicPort"])) for p in ports if "PublicPort" in p
    }
    return tuple(sorted(found))


def epoch_s(text: str) -> float:
    """Returns Docker's time as seconds since the epoch; 0.0 for its zero, the year 1."""
    return max(0.0, datetime.fromisoformat(text).timestamp())
