"""Which nodes are refused again and again. Pure.

One that comes back at once after each refusal would stay ready for ever, and be told all its tasks each time.
"""

from __future__ import annotations

REFUSALS_MAX = 3  # within the window; a node that thinks better of it has had its chances
WINDOW_S = 60.0  # agents come again within 4 s
PAUSE_S = 60.0  # longer than any grace at the usual periods: the node is down then, its tasks run elsewhere


class Refusals:
    """Of one leader. Times are the event loop's. Kept: the last three times of each node, until `forget`."""

    def __init__(self) -> None:
        self._times: dict[str, tuple[float, ...]] = {}

    def add(self, node_id: str, now: float) -> None:
        """What the node said was refused."""
        self._times[node_id] = (*self._times.get(node_id, ()), now)[-REFUSALS_MAX:]

    def wait_s(self, node_id: str, now: float) -> float:
        """Returns for how long the node gets no session; 0 where it may have one now."""
        times = self._times.get(node_id, ())
        if len(times) < REFUSALS_MAX or times[-1] - times[0] > WINDOW_S:
            return 0.0
        return max(0.0, times[-1] + PAUSE_S - now)

    def forget(self, node_id: str) -> None:
        """The node is no longer of this swarm."""
        self._times.pop(node_id, None)
