"""The dashboard's own copy of the board, as the swarm tells it. Pure."""

from __future__ import annotations

from collections import deque
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from skep.model.board import NODE_STATES, STATES, BoardChange, BoardSnapshot, Counts, board_id
from skep.runtime.errors import Invalid

PLACES_MAX = 1_000_000  # of nodes, and of services: a hundred times what was ever tried
HISTORY_S = 10.0  # between its points: what a chart of an hour shows on 360 pixels
HISTORY_MAX = 360
_READY, _RUNNING = NODE_STATES.index("ready"), STATES.index("running")


class HistoryRow(Struct, frozen=True, array_like=True):
    """The swarm at a moment, in seconds since the epoch."""

    at: int
    nodes_ready: int
    tasks_running: int
    tasks_wanted: int
    tasks_pending: int


class BoardState:
    """What the swarm has said so far. It keeps the snapshot's lists, and changes them."""

    def __init__(self, snapshot: BoardSnapshot) -> None:
        self._told = snapshot

    @property
    def id(self) -> str:
        """Returns what names this state to the swarm."""
        return board_id(self._told.epoch, self._told.seq)

    @property
    def snapshot(self) -> BoardSnapshot:
        return self._told

    def apply(self, change: BoardChange) -> None:
        """Takes a change in. Errors: `Invalid` where it does not follow on what is known, or makes no
        sense."""
        told = self._told
        if change.seq != told.seq + 1:
            raise Invalid(f"the board's change {change.seq} does not follow on {told.seq}")
        places = [place for changed in (change.nodes, change.services, change.tasks) for place, _ in changed]
        if places and not 0 <= min(places) <= max(places) < PLACES_MAX:
            raise Invalid(f"the board's change {change.seq} is of a place that there cannot be")
        for place, node in change.nodes:
            self._have_node(place)
            told.nodes[place] = node
        for place, counts in change.tasks:
            self._have_node(place)
            told.tasks[place] = counts
        for place, service in change.services:
            while len(told.services) <= place:
                told.services.append(None)
            told.services[place] = service
        swarm = replace(told.swarm, leader=change.leader)
        self._told = replace(told, seq=change.seq, at=change.at, pending=change.pending, swarm=swarm)

    def _have_node(self, place: int) -> None:
        while len(self._told.nodes) <= place:
            self._told.nodes.append(None)
            self._told.tasks.append([])

    def row(self, at: float) -> HistoryRow:
        """Returns the swarm in a few numbers, for charts."""
        told = self._told
        return HistoryRow(
            int(at),
            sum(1 for node in told.nodes if node is not None and node[3] == _READY),
            sum(_running(counts) for counts in told.tasks),
            sum(service[3] for service in told.services if service is not None),
            sum(told.pending[1::2]),
        )


class BoardHistory:
    """The last hour, a point every ten seconds; where the swarm was away, there is none."""

    def __init__(self) -> None:
        self._rows: deque[HistoryRow] = deque(maxlen=HISTORY_MAX)

    @property
    def rows(self) -> list[HistoryRow]:
        return list(self._rows)

    def add(self, row: HistoryRow) -> None:
        self._rows.append(row)


class PageSnapshot(BoardSnapshot, frozen=True, kw_only=True):
    """What a page begins with."""

    history: list[HistoryRow]


def page_snapshot(state: BoardState, history: BoardHistory) -> PageSnapshot:
    """Returns the board as it is, and how it came to be so."""
    told = state.snapshot
    known: dict[str, Any] = {name: getattr(told, name) for name in told.__struct_fields__}
    return PageSnapshot(**known, history=history.rows)


def _running(counts: Counts) -> int:
    return sum(counts[at + 1] for at in range(1, len(counts) - 1, 3) if counts[at] == _RUNNING)
