"""Stored values that cannot be read: what becomes of the objects that they are about.

The key stays in the store, and with it the object's name is taken. Nothing is decided about the object: its
tasks are left as they are, on nodes too. Where only a part of a service is unreadable (its tasks on one node,
a network or secret that it uses), the whole service is set aside: nobody knows what is missing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TypeVar

import structlog
from msgspec.structs import replace

from skep.model.aside import NODE, SERVICE, Aside, Unreadable, reason_of
from skep.model.material import references
from skep.model.node import Node, NodeDescription, NodeSpec
from skep.model.service import Service
from skep.runtime.errors import Corrupt
from skep.store import codec
from skep.store.view import View

log = structlog.get_logger()

T = TypeVar("T")

LOGGED_MAX = 20  # keys named in the log at each load; `skep store ls --quarantined` has all
ADVICE = "skep store ls --quarantined"


def put(view: View, key: str, error: Exception, revision: int) -> None:
    """Notes a key that could not be read, and undoes what of it has come into the view."""
    reason = str(error) if isinstance(error, Corrupt) else f"the store's key {key}: {reason_of(error)}"
    view.quarantine[key] = Unreadable(key, reason)
    object_id = codec.id_of(key)
    if codec.is_network(key):
        _undo(view.drop_network, object_id)
    elif codec.is_node(key):
        # A node of that id there is, or it would be told that it was removed, and end all it runs.
        view.put_node(_stand_in(object_id, revision))
        _aside(view, NODE, object_id, reason)
    elif codec.is_service(key) or codec.is_removed(key):
        _forget_service(view, object_id)
        _aside(view, SERVICE, object_id, reason)
    elif codec.is_bucket(key):
        _put_bucket(view, key, reason)
    elif codec.is_material(key):
        _undo(view.drop_material, object_id)


def set_users_aside(view: View) -> None:
    """Sets services aside that use what cannot be read."""
    networks = {codec.id_of(key) for key in view.quarantine if codec.is_network(key)}
    materials = {codec.id_of(key) for key in view.quarantine if codec.is_material(key)}
    if not networks and not materials:
        return
    for service in view.services.values():
        missing = sorted((_networks_of(service) & networks) | (_materials_of(service) & materials))
        if missing:
            reason = f"what is stored of {missing[0]}, which it uses, cannot be read"
            _aside(view, SERVICE, service.id, reason)


def set_roles(view: View) -> None:
    """A stand-in of a manager is to stay one; `view.members` are known by now."""
    for (kind, node_id), aside in view.asides.items():
        node = view.nodes.get(node_id)
        if kind == NODE and aside.is_unreadable and node is not None and view.is_member(node_id):
            view.put_node(replace(node, spec=replace(node.spec, role="manager")))


def log_all(view: View) -> None:
    """Says what could not be read."""
    for unreadable in list(view.quarantine.values())[:LOGGED_MAX]:
        log.error("store.quarantined", key=unreadable.key, reason=unreadable.reason, advice=ADVICE)
    if len(view.quarantine) > LOGGED_MAX:
        log.error("store.quarantined", more=len(view.quarantine) - LOGGED_MAX, advice=ADVICE)


def is_unreadable_network(view: View) -> bool:
    """True where nobody knows which subnets are given out."""
    return any(codec.is_network(key) for key in view.quarantine)


def forget_node(view: View, node_id: str) -> None:
    """A node was removed, with its key."""
    view.quarantine.pop(codec.node_key(node_id), None)
    view.asides.pop((NODE, node_id), None)


def _aside(view: View, kind: str, object_id: str, reason: str) -> None:
    view.asides.setdefault((kind, object_id), Aside(kind, object_id, reason, since=0.0))


def _stand_in(node_id: str, revision: int) -> Node:
    """What is there of a node whose record cannot be read: it takes no new tasks."""
    return Node(
        id=node_id,
        spec=NodeSpec(availability="pause"),
        description=NodeDescription(hostname=node_id),
        created_at=0.0,
        updated_at=0.0,
        version=revision,
    )


def _put_bucket(view: View, key: str, reason: str) -> None:
    try:
        node_id, service_id = codec.bucket_ids(key)
    except Corrupt:
        return  # of nobody's
    for task in list(view.bucket(node_id, service_id).values()):
        _undo(view.drop_task, task)
    view.half_known.add(node_id)
    _aside(view, SERVICE, service_id, reason)


def _forget_service(view: View, service_id: str) -> None:
    service = view.services.pop(service_id, None)
    if service is not None:
        view.service_ids.pop(service.spec.name, None)
        view.service_names.pop(service.spec.name.lower(), None)
        _undo(lambda each: view.allocations.settle(each, None), service_id)


def _undo(undo: Callable[[T], None], what: T) -> None:
    with contextlib.suppress(Exception):  # what could not be put whole may not be taken back whole either
        undo(what)


def _networks_of(service: Service) -> set[str]:
    found = {each.network_id for each in service.endpoint.vips} if service.endpoint is not None else set()
    for template in service.templates:
        found.update(each.target for each in (*template.spec.networks, *template.networks))
    return found


def _materials_of(service: Service) -> set[str]:
    found: set[str] = set()
    for template in service.templates:
        found.update(each for _, each, _ in references(template.spec.container_spec))
    return found
