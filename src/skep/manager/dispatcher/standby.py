"""How many standby connections nodes are to keep, and how soon they open them. Pure: times are arguments."""

from __future__ import annotations

import math

from skep.rpc.messages import StandbyWish

# To each other manager, 43 kB each there: 2,300 nodes are 99 MB, all that may be 172 MB, less than it takes
# when it leads so many. Of 10,000 nodes four in ten come to a new leader without a handshake.
PER_MANAGER_MAX = 4000
# Of one node: all others of five managers. With more, each node has one to most of them; 43 kB each for it.
EACH_MAX = 4
# Opened in a second, by all nodes, to each of the managers: 2 ms of its time each. 2,300 nodes with three
# managers have opened 4,600 after a minute.
PER_S = 40
WITHIN_MIN_S = 1.0
# Sessions that begin within as long: nodes join, or come to a new leader. What they do not need yet must not
# take from what they do. A beat: by then those that are here have heard how it is.
CROWD_S = 5.0
CROWD = 25  # five a second take a manager 2 % of a core


class StandbyPolicy:
    """Of one leader."""

    def __init__(self) -> None:
        self._since = -math.inf  # when the present count began
        self._came = self._came_before = 0  # in this span of time, and in the one before it

    def came(self, now: float) -> None:
        """A session has begun."""
        self._roll(now)
        self._came += 1

    def wish(self, nodes: int, managers: int, now: float) -> StandbyWish:
        """Returns what nodes are told, `managers` with the leader among them."""
        others = managers - 1
        if others < 1 or nodes < 1:
            return StandbyWish()
        self._roll(now)
        each = min(others, EACH_MAX, _down(PER_MANAGER_MAX * others / nodes))
        within_s = max(WITHIN_MIN_S, math.ceil(nodes / (PER_S * others)))
        return StandbyWish(each, within_s, max(self._came, self._came_before) >= CROWD)

    def _roll(self, now: float) -> None:
        passed_s = now - self._since
        if passed_s >= CROWD_S:
            self._came_before = self._came if passed_s < 2 * CROWD_S else 0
            self._came, self._since = 0, now


def _down(each: float) -> float:
    """In steps, that not every node which comes is news to all others."""
    return math.floor(each * 20) / 20
