"""Messages to the subjects that registered for their type: nobody in between has to know them.

A subject says once what it takes (`on`). Where several take one type, they hear it in the order in which they
registered: who puts subjects together registers them in one list. What a taker raises ends the routing of
that message; the caller makes of it what it likes: a line that is lost, never a loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, TypeVarTuple

Message = TypeVar("Message")
Source = TypeVarTuple("Source")  # whose message it is: a node's id at the leader, nothing at an agent


class Router(Generic[*Source]):
    """`route` costs a look into a dict for each message, whoever registered."""

    def __init__(self) -> None:
        self._takers: dict[type, list[Callable[..., None]]] = {}

    def on(self, kind: type[Message], take: Callable[[*Source, Message], None]) -> None:
        """From now on `take` hears of each message of this type, after those that do already."""
        self._takers.setdefault(kind, []).append(take)

    def route(self, *said: *tuple[*Source, Any]) -> bool:
        """Hands on (source, message); False where nobody takes messages of its type. Errors: what a taker
        raises; those after it do not hear of the message."""
        takers = self._takers.get(type(said[-1]))
        if takers is None:
            return False
        for take in takers:
            take(*said)
        return True
