"""What a node cannot do of its networks, said once: to the manager, where users see it, and in the log."""

from __future__ import annotations

import structlog

from skep.agent.session import Session
from skep.rpc import messages
from skep.rpc.checking import FAILURE_MAX_BYTES, FAILURES_MAX
from skep.runtime.errors import SkepError
from skep.runtime.texts import printable

log = structlog.get_logger()


class NetworkFailures:
    """As they were said last in this session, and logged last."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._said: list[str] = []
        self._logged: list[str] = []

    def session_began(self) -> None:
        self._said = []  # what the manager takes for so

    def say(self, failures: list[str]) -> None:
        """Tells what is new of that; all of it, where there is less than before."""
        said = [shown(text) for text in failures[:FAILURES_MAX]]
        if len(failures) > FAILURES_MAX:
            said[-1] = f"and {len(failures) - FAILURES_MAX + 1} more: the log of skepd has them"
        if said != self._logged:
            self._logged = said
            for text in failures:
                log.warning("mesh.failed", reason=text)
        if said != self._said and self._session.manager_knows(messages.MESH):
            self._session.send(messages.MeshApplied(said))
            self._said = said


def in_words(error: Exception) -> str:
    """Returns what went wrong, for people; one that nobody thought of has its traceback in the log."""
    if isinstance(error, SkepError):
        return str(error)
    log.error("mesh.error", exc_info=error)
    return f"the routing mesh failed in a way that nobody thought of (skepd's log has more): {error!r}"


def shown(text: str, max_bytes: int = FAILURE_MAX_BYTES) -> str:
    """Returns a text as it may be said to a manager."""
    return printable(text, max_bytes)
