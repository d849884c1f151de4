"""Events of the swarm, as `docker events` shows them (Engine API 1.51, `/events`)."""

from __future__ import annotations

from msgspec import Struct


class Event(Struct, frozen=True):
    """One change of an object. `at` is epoch seconds."""

    type: str  # service | node
    action: str  # create | update | remove
    id: str
    attributes: dict[str, str]
    at: float
