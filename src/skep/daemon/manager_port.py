"""Who comes to a manager's port, and what serves them: who joins, who has a session, who waits for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from skep.daemon.addresses import parse_address
from skep.daemon.connection_dispatch import ConnectionDispatch
from skep.daemon.enrolling import Enrolling
from skep.daemon.standby_connections import StandbyConnections, room
from skep.daemon.waiting_room import WaitingRoom
from skep.manager.leader import Leader
from skep.rpc.certificates import NodeKeys
from skep.rpc.enrol import Afterwards, EnrolHandler
from skep.rpc.enrolment_messages import Elsewhere
from skep.rpc.interfaces import Connection, Handler
from skep.rpc.link import FrameLink
from skep.rpc.log_streams import PublishLogs, refuse_logs
from skep.rpc.streams import OpenStream
from skep.rpc.trust import chain_of
from skep.runtime.metrics import Gauge


class WhoLeads(Protocol):
    """What a manager knows of who leads."""

    @property
    def leader(self) -> Leader | None:
        """The leader, while it is this manager."""
        ...

    @property
    def is_led(self) -> bool:
        """True while who leads would be known here."""
        ...

    @property
    def leader_address(self) -> str:
        """Where another manager leads; an empty text where none is known to."""
        ...

    async def find_leader(self) -> str:
        """Returns the same, where that manager answers; else an empty text."""
        ...

    def addresses(self) -> list[str]:
        """Returns where managers are reached, the leader first."""
        ...


class ManagerPort:
    """Of one manager. `stream` takes what other managers open; `now` is the wall clock, for certificates."""

    def __init__(
        self,
        lead: WhoLeads,
        stream: Callable[[FrameLink, OpenStream], None],
        enrolling: Enrolling,
        keys: NodeKeys,
        now: Callable[[], float],
    ) -> None:
        self._lead = lead
        self._stream = stream
        self._enrolling = enrolling
        self._keys = keys
        self._waiting = WaitingRoom(self._serve, lead.find_leader, lead.addresses, lambda: lead.is_led)
        self._standbys = StandbyConnections(now, room())
        self._afterwards = Afterwards(self._welcome, self._elsewhere)
        self.metrics = (
            Gauge(
                "skep_connections_standby",
                "Connections of nodes that wait for this manager to lead.",
                lambda: len(self._standbys),
            ),
        )

    def handler(self, connection: FrameLink) -> Handler | None:
        """Returns what serves one that has come."""
        if connection.identity is None:
            leader = self._lead.leader
            cluster = leader.view.cluster if leader is not None else None
            ca_pem = cluster.ca_cert_pem if cluster is not None else self._keys.ca_pem
            chain = chain_of(self._keys.certificate_pem)
            return EnrolHandler(connection, ca_pem, self._enrolling, chain, self._afterwards)
        stream = self._stream if connection.identity.role == "manager" else None
        standbys = self._standbys if connection.is_standby else None
        return ConnectionDispatch(connection, self._session, stream, self._logs, standbys)

    def seen(self) -> list[str]:
        """Returns the nodes that came lately, looking for a leader."""
        return self._waiting.seen()

    def renewed(self, keys: NodeKeys) -> None:
        """The manager's own certificate or trust is new. What another root has vouched for begins no session
        any more."""
        if keys.ca_pem != self._keys.ca_pem:
            self._standbys.close_all()
        self._keys = keys

    def close(self) -> None:
        self._waiting.close()

    # Inside

    def _welcome(self, link: FrameLink) -> Handler | None:
        """Returns what serves a node that was enrolled here and stays: it has to register in time."""
        if self._lead.leader is None:
            return None
        return ConnectionDispatch(link, self._session, None, self._logs)

    def _elsewhere(self) -> Elsewhere | None:
        address = self._lead.leader_address if self._lead.leader is None else ""
        return Elsewhere(*parse_address(address)) if address else None

    def _session(self, connection: Connection) -> Handler:
        return self._serve(connection) or self._waiting.enter(connection)

    def _serve(self, connection: Connection) -> Handler | None:
        leader = self._lead.leader
        if leader is None or leader.safe_mode or not leader.is_sure:
            return None
        return leader.sessions.open(connection)

    def _logs(self, link: FrameLink, brought: PublishLogs) -> None:
        leader = self._lead.leader
        if leader is None:
            refuse_logs(link, "this manager does not lead")
        else:
            leader.logs.accept(link, brought)
