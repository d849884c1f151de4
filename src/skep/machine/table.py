"""Machines as `skep machine ls` shows them, in docker-machine's columns. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from skep.machine.engine import RUNNING, Condition
from skep.machine.record import Machine

COLUMNS = ("NAME", "ACTIVE", "DRIVER", "STATE", "URL", "SWARM", "DOCKER", "ERRORS")
_MEMBERS = ("Name", "Active", "DriverName", "State", "URL", "Swarm", "DockerVersion", "Error")


def row(machine: Machine | str, condition: Condition, active_url: str) -> dict[str, str]:
    """Returns a machine's members, under the names that docker-machine's templates have. One whose config
    cannot be read is its name. SWARM was for a swarm that Docker no longer has: it is empty."""
    is_known = isinstance(machine, Machine)
    url = machine.url if isinstance(machine, Machine) else ""
    name, driver = (machine.name, machine.driver) if isinstance(machine, Machine) else (machine, "")
    version = f"v{condition.version}" if condition.version else "Unknown"
    values = (
        name,
        "*" if is_known and url == active_url else "-",
        driver,
        condition.state,
        url if condition.state == RUNNING else "",
        "",
        version,
        condition.error,
    )
    return dict(zip(_MEMBERS, values, strict=True))


def columns(rows: Sequence[dict[str, str]]) -> list[str]:
    """Returns the lines of the table; an error stays on its machine's line."""
    table = [COLUMNS, *(tuple(" ".join(each[member].split()) for member in _MEMBERS) for each in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "   ".join(text.ljust(width) for text, width in zip(each, widths, strict=True)).rstrip()
        for each in table
    ]
