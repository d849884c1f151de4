"""A simulated machine's disk: the product's own files in a temporary directory. What a daemon that was killed
still does writes nothing, etcd's data are the model's, and the run's checkers know which data keys there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skep.daemon.keys import KeyFiles
from skep.daemon.state import Membership, StateDir
from skep.rpc.certificates import NodeKeys

if TYPE_CHECKING:
    from skep.sim.hosts import Host


class SimStateDir(StateDir):
    """A host's directory, for one life of its daemon."""

    def __init__(self, host: Host) -> None:
        super().__init__(host.directory)
        self._host = host
        self.is_dead = False

    def die(self) -> None:
        """The daemon is gone: what it still does writes nothing."""
        self.is_dead = True

    def save(self, membership: Membership) -> None:
        if not self.is_dead:
            super().save(membership)

    def save_former(self, node_ids: list[str]) -> None:
        if not self.is_dead:
            super().save_former(node_ids)

    def clear_store(self) -> None:
        if not self.is_dead:
            super().clear_store()
            self._host.peer.clear()
            self._host.has_keys((), ())


class SimKeyFiles(KeyFiles):
    """Those of a host, for one life of its daemon."""

    def __init__(self, state: SimStateDir, host: Host) -> None:
        super().__init__(state)
        self._life = state
        self._host = host

    def _save(self, node_keys: NodeKeys, is_sealed: bool) -> None:
        if not self._life.is_dead:
            super()._save(node_keys, is_sealed)

    def _write(self, data_key: bytes, unlock_key: str, older: tuple[bytes, ...], retired: bytes) -> None:
        if not self._life.is_dead:
            super()._write(data_key, unlock_key, older, retired)
            self._host.has_keys((data_key, *older), (retired,) if retired else ())
