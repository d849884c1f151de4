"""Nodes in Docker's JSON (Engine API 1.51)."""

from __future__ import annotations

from msgspec import field

from skep.api.objects import Version, reply_time
from skep.model.aside import NODE
from skep.model.node import READY, UNKNOWN, Node, NodeStatus, NodeTLSInfo
from skep.model.wire import Wire
from skep.store.overlaps import no_place_for
from skep.store.view import View


class NodeStatusJson(Wire, frozen=True, kw_only=True):
    state: str
    message: str = ""
    addr: str = ""


class ManagerStatusJson(Wire, frozen=True, kw_only=True):
    leader: bool = False
    reachability: str = ""
    addr: str = ""


class NodeDescriptionJson(Wire, frozen=True, kw_only=True):
    hostname: str
    platform: object
    resources: object
    engine: object
    tls_info: NodeTLSInfo | None = field(name="TLSInfo", default=None)


class NodeJson(Wire, frozen=True, kw_only=True):
    id: str = field(name="ID")
    version: Version
    created_at: str
    updated_at: str
    spec: object
    description: NodeDescriptionJson
    status: NodeStatusJson
    manager_status: ManagerStatusJson | None = None


def node_json(view: View, node: Node, leader_id: str, tls: NodeTLSInfo | None) -> NodeJson:
    """Returns the node with its soft state. `leader_id` is the node that answers."""
    state = view.node_state(node.id)
    described = node.description
    aside = view.asides.get((NODE, node.id))
    if aside is not None:  # who is set aside is as good as unheard of: it takes no tasks
        state = NodeStatus(UNKNOWN if state.state == READY else state.state, aside.sentence)
    sentences = [state.sentence, *no_place_for(view, node.id)]
    manager = None
    if view.is_member(node.id) or (node.spec.role == "manager" and state.state != READY):
        reachable = view.reachability_of(node.id) or "unreachable"
        manager = ManagerStatusJson(
            leader=node.id == leader_id, reachability=reachable, addr=node.manager_addr
        )
    return NodeJson(
        id=node.id,
        version=Version(node.version),
        created_at=reply_time(node.created_at),
        updated_at=reply_time(node.updated_at),
        spec=node.spec,
        description=NodeDescriptionJson(
            hostname=described.hostname,
            platform=described.platform,
            resources=described.resources,
            engine=described.engine,
            tls_info=tls,
        ),
        status=NodeStatusJson(state=state.state, message="; ".join(filter(None, sentences)), addr=node.addr),
        manager_status=manager,
    )
