"""What parts of a leader that ask nodes something need of their sessions."""

from __future__ import annotations

from typing import Protocol

from skep.rpc.messages import FromManager


class NodeSessions(Protocol):
    """See `dispatcher.sessions.Sessions`."""

    def has(self, node_id: str) -> bool: ...
    def understands(self, node_id: str, feature: str) -> bool: ...
    def send(self, node_id: str, message: FromManager) -> None: ...
