"""A manager's end of standby connections (`rpc.standby`): who waits here for it to lead, and how many may."""

from __future__ import annotations

import resource
from collections.abc import Callable

import structlog

from skep.rpc.interfaces import Connection

log = structlog.get_logger()

# 43 kB each: 190 MB. Nodes are told to bring 4,000 at most (`dispatcher.standby`), each by its own chance.
STANDBYS_MAX = 4500
FILES_SHARE = 4  # where skepd may have few files, a quarter of them: sessions are worth more


def room() -> int:
    """Returns how many this process has room for."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return STANDBYS_MAX if files == resource.RLIM_INFINITY else min(STANDBYS_MAX, files // FILES_SHARE)


class StandbyConnections:
    """Of one manager. `now` is the wall clock, for certificates; `most` of them may be."""

    def __init__(self, now: Callable[[], float], most: int = STANDBYS_MAX) -> None:
        self._now = now
        self._most = most
        self._of_node: dict[str, Connection] = {}  # one each

    def __len__(self) -> int:
        return len(self._of_node)

    def enter(self, connection: Connection) -> None:
        """One has come. The newest of a node is where it is now; of too many, the newest is refused: its node
        comes as it would without."""
        assert connection.identity is not None
        node_id = connection.identity.node_id
        before = self._of_node.pop(node_id, None)
        if before is not None:
            before.close()
        if len(self._of_node) >= self._most:
            log.debug("standby.refused", node_id=node_id, most=self._most)
            connection.close()
            return
        self._of_node[node_id] = connection

    def leave(self, connection: Connection) -> bool:
        """It is used, or has ended. Returns whether it may be used: it is here, and the certificate that it
        was opened with is still one. Whether the node belongs to the swarm, the leader says."""
        identity = connection.identity
        if identity is None or self._of_node.get(identity.node_id) is not connection:
            return False
        del self._of_node[identity.node_id]
        return identity.not_after > self._now()

    def close_all(self) -> None:
        """Ends all: they are to be opened anew."""
        before, self._of_node = self._of_node, {}
        for connection in before.values():
            connection.close()
