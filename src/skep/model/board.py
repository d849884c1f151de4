"""The board: the whole swarm at a glance, as numbers, for pages that show it as it changes.

A snapshot has all of it, a change what is other a second later, both as JSON; objects are named by their
index in a list, which holds within an epoch. A row that is null is nobody's.
"""

from __future__ import annotations

from msgspec import Struct

from skep.model.states import STATE_NAMES

STATES = tuple(STATE_NAMES.values())  # a state's code is its index here
CODES = {state: code for code, state in enumerate(STATE_NAMES)}
NODE_STATES = ("unknown", "ready", "down")
AVAILABILITIES = ("active", "pause", "drain")
ROLES = ("worker", "manager")
REMOVING = "removing"  # the update's state of a service that is gone but for its tasks

# id, host name, and indexes: role, state, availability
NodeRow = tuple[str, str, int, int, int]
# id, name, mode, tasks wanted, image, the state of its update
ServiceRow = tuple[str, str, str, int, str, str]
# of one node: service's index, state's code, how many, and so on
Counts = list[int]


class BoardSwarm(Struct, frozen=True):
    """`leader` is a node's id."""

    id: str
    leader: str
    version: str


class BoardSnapshot(Struct, frozen=True):
    """`tasks` is by node, in the order of `nodes`; `pending` is service's index, how many, and so on. Of
    tasks only those are there that are wanted, or are observed and have not ended."""

    epoch: str
    seq: int
    at: float  # seconds since the epoch
    swarm: BoardSwarm
    states: list[str]
    nodes: list[NodeRow | None]
    services: list[ServiceRow | None]
    tasks: list[Counts]
    pending: Counts


class BoardChange(Struct, frozen=True):
    """What is other than at `seq` - 1; `pending` is whole."""

    seq: int
    at: float
    nodes: list[tuple[int, NodeRow | None]]
    services: list[tuple[int, ServiceRow | None]]
    tasks: list[tuple[int, Counts]]
    pending: Counts
    leader: str


def board_id(epoch: str, seq: int) -> str:
    """Returns what names the state of the board at a moment: in `after`, and as ids of events."""
    return f"{epoch}:{seq}"
