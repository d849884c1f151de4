"""Nodes' certificates, over their sessions: what they should be, what they are, and new ones on request."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from msgspec.structs import replace

from skep.manager.ca.rotation import wanted_tls
from skep.manager.dispatcher.sessions import Sessions
from skep.model.cluster import Cluster
from skep.model.node import Node, NodeTls
from skep.rpc.messages import HasTls, Register, Renew, Renewed, WantedTls
from skep.runtime.errors import SkepError
from skep.store.view import View

log = structlog.get_logger()

Sign = Callable[[Cluster, Node, bytes], bytes]  # a request, PEM -> the node's certificate, PEM


class Certificates:
    """`sign` makes a node's certificate. Errors of it: `SkepError`."""

    def __init__(self, view: View, sessions: Sessions, sign: Sign) -> None:
        self._view = view
        self._sessions = sessions
        self._sign = sign
        self._told = self._wanted()

    def began(self, node_id: str, said: Register) -> None:
        """A session has begun: the node is told what its certificate should be."""
        wanted = self._wanted()
        if wanted is not None:
            self._sessions.send(node_id, wanted)

    def tell(self) -> None:
        """What nodes' certificates should be may have changed."""
        wanted, told = self._wanted(), self._told
        if wanted is None or (told is not None and replace(told, spread_s=wanted.spread_s) == wanted):
            return
        self._told = wanted
        self._sessions.broadcast(wanted)

    def has(self, node_id: str, has: HasTls) -> None:
        """A node told what its certificate is."""
        self._view.put_node_tls(node_id, NodeTls(has.issuer, has.trust))

    def renew(self, node_id: str, asked: Renew) -> None:
        """Signs a node's new certificate. One that is refused is not answered: the node asks again."""
        cluster, node = self._view.cluster, self._view.nodes.get(node_id)
        if cluster is None or node is None:
            return
        try:
            signed = self._sign(cluster, node, asked.request_pem)
        except SkepError as error:
            log.warning("certificate.refused", node_id=node_id, error=str(error))
            return
        self._sessions.send(node_id, Renewed(signed, cluster.ca_cert_pem))

    def _wanted(self) -> WantedTls | None:
        """Returns None where there are no certificates (simulation)."""
        cluster = self._view.cluster
        return wanted_tls(cluster, len(self._view.nodes)) if cluster and cluster.ca_cert_pem else None
