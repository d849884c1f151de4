"""Events of the swarm, as `docker events` shows them (Engine API 1.51, `/events`)."""

from __future__ import annotations

from msgspec import Struct

TASK = "task"  # Docker has no events of tasks: these are only shown to who asks for them by type


class Event(Struct, frozen=True):
    """One change of an object. `at` is epoch seconds. `origin` and `number` say which one it is: managers
    hear of it from each other, some of them twice."""

    type: str  # service | node | secret | config | network | task
    action: str  # create | update | remove
    id: str
    attributes: dict[str, str]
    at: float
    origin: str = ""
    number: int = 0

    @property
    def at_ns(self) -> int:
        return int(self.at * 1e9)

    @property
    def key(self) -> tuple[str, int, str, float]:
        return self.origin, self.number, self.id, self.at
