"""Whether a leader knows its swarm already. Pure.

A new leader knows who is in the swarm, and hears within seconds from each node what runs there. Until then
it counts too little of that: written, it would show a swarm that fell to nothing and rose again.
"""

from __future__ import annotations

# Those that live come back in a stream, and say what they run a moment after they are back. When it has
# ended, who is missing is gone: the leader of before, at least.
STILL_S = 2.0
GONE_SHARE = 0.05  # if more are missing it is no stream that has ended: they have not noticed yet
# A node that is not heard of for three heartbeats (of five seconds, as a rule) is down: whoever is unknown
# after that stays so until an operator acts, and the numbers are as good as they get.
STUCK_S = 20.0


class Settling:
    """Told of each look at the swarm, in order."""

    def __init__(self) -> None:
        self._is_learning = False
        self._unknown = 0
        self._since_s = 0.0  # the first look with so many

    def is_settled(self, unknown_nodes: int, nodes: int, now_s: float) -> bool:
        """`unknown_nodes`: how many of all `nodes` the leader has not heard of since it leads. `now_s`: of a
        clock that nobody sets; one that went back an hour would have an hour waited for."""
        if unknown_nodes == 0 and not self._is_learning:
            return True
        self._is_learning = True
        if unknown_nodes != self._unknown:
            self._unknown, self._since_s = unknown_nodes, now_s
        still_s = now_s - self._since_s
        is_over = still_s >= STILL_S and unknown_nodes <= max(1, nodes * GONE_SHARE)
        is_settled = is_over or still_s >= STUCK_S
        if is_settled and unknown_nodes == 0:
            self._is_learning = False
        return is_settled
