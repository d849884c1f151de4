"""Whether a leader knows its swarm already. Pure.

A new leader knows who is in the swarm, and hears within seconds from each node what runs there. Until then
its numbers are too small: written, they would show a swarm that fell to nothing and rose again.
"""

from __future__ import annotations

# A node that is not heard of for three heartbeats (of five seconds, as a rule) is down: whoever is unknown
# after that stays so until an operator acts, and the numbers are as good as they get.
SETTLE_S = 20.0


class Settling:
    """Told of each look at the swarm, in order."""

    def __init__(self) -> None:
        self._since: float | None = None  # the first look with unknown nodes since there were none

    def is_settled(self, unknown_nodes: int, now_s: float) -> bool:
        """`unknown_nodes`: how many the leader has not heard of since it leads."""
        if unknown_nodes == 0:
            self._since = None
            return True
        if self._since is None:
            self._since = now_s
        return now_s - self._since >= SETTLE_S
