"""How often each node may do what costs the manager something: a bucket of tokens for each node. Pure."""

from __future__ import annotations


class Rates:
    """Each node may do `burst` things at once, and `per_s` in every second after that. Times are the event
    loop's. Kept for as long as the leader leads: two numbers for each node that ever did something."""

    __slots__ = ("_burst", "_left", "_per_s")

    def __init__(self, burst: float, per_s: float) -> None:
        self._burst = burst
        self._per_s = per_s
        self._left: dict[str, tuple[float, float]] = {}  # node -> (tokens, when that was)

    def left(self, node_id: str, now: float) -> float:
        """Returns how many things the node may do now; negative where it has done more than it might."""
        tokens, at = self._left.get(node_id, (self._burst, now))
        return min(self._burst, tokens + (now - at) * self._per_s)

    def spend(self, node_id: str, now: float, count: float = 1.0) -> None:
        """The node has done that many things."""
        self._left[node_id] = (self.left(node_id, now) - count, now)

    def take(self, node_id: str, now: float, count: float = 1.0) -> bool:
        """Returns whether the node may do that many things now, and counts them where it may."""
        left = self.left(node_id, now)
        if left < count:
            return False
        self._left[node_id] = (left - count, now)
        return True

    def wait_s(self, node_id: str, now: float) -> float:
        """Returns how long it is until the node may do one thing; 0 where it may now."""
        return max(0.0, (1.0 - self.left(node_id, now)) / self._per_s)
