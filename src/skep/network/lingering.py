"""Bridges that go a little later than their last container: an engine's network is on them for a while. Pure.

With a bridge goes the address that the engine has given it, and the engine gives it no other.
"""

from __future__ import annotations

from collections.abc import Collection

# An engine's network goes two seconds after its last container (`agent.executor.bridges`), on a host that has
# much to do a few later; and between that a bridge is made and that a container is on it is less than that.
LINGER_S = 15.0


class Lingering:
    """Which bridges nobody has needed, and since when."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def of(self, unneeded: Collection[str], now: float) -> frozenset[str]:
        """Returns those that stay for now. `now` is in seconds, of a clock that is not set."""
        self._since = {name: self._since.get(name, now) for name in unneeded}
        return frozenset(name for name, since in self._since.items() if now - since < LINGER_S)
