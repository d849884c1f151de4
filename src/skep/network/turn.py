"""One skepd per network of a host programs it: others that share the host's network leave it to that one.

Who does has two names among the kernel's abstract sockets, which belong to the network and end with the
process.
"""

from __future__ import annotations

import socket

_NAME = "\0skep-mesh"
OF_ANOTHER_SWARM = (
    "another skepd on this host, of another swarm, has the routing mesh: ports that this swarm publishes do"
    " not answer here. Give each swarm hosts (or network namespaces) of its own"
)


class Turn:
    """See the module's text."""

    def __init__(self) -> None:
        self._held: list[socket.socket] = []

    def take(self, network_id: str) -> str | None:
        """Returns None where this process is the one; else what is wrong with that: an empty text where
        another one of the same swarm does it for both."""
        if self._held:
            return None
        ours = _bound(_NAME)
        named = _bound(f"{_NAME}/{network_id}")
        if ours is not None and named is not None:
            self._held = [ours, named]
            return None
        for each in (ours, named):
            if each is not None:
                each.close()
        return "" if named is None else OF_ANOTHER_SWARM

    @property
    def is_held(self) -> bool:
        return bool(self._held)

    def give_back(self) -> None:
        while self._held:
            self._held.pop().close()


def _bound(name: str) -> socket.socket | None:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        made.bind(name)
    except OSError:
        made.close()
        return None
    return made
