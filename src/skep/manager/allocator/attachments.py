"""Addresses for single containers of a node.

As with tasks, what is decided is taken in the view's book at once.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from skep.manager.allocator.tasks import no_address, take
from skep.model.attachment import Attachment
from skep.model.network import Network
from skep.model.task import TaskAddress
from skep.runtime.errors import Conflict, Denied, Invalid, Unsupported
from skep.runtime.ids import NewId
from skep.store.addresses import AddressBook
from skep.store.view import View

PER_NODE_MAX = 1000  # a Linux bridge has 1,024 ports; removing a node forgets them in one transaction


def attach(
    view: View, node_id: str, network: Network, wanted: str, attachment_id: str, now: float
) -> Attachment:
    """Returns the attachment of a container that is about to be made; `wanted`: the address that it is to
    have, without a prefix length, or an empty text.

    Errors: `Denied` (not attachable), `Conflict` (the address, or all of them, are in use; too many here),
    `Invalid` (an address of another subnet), `Unsupported` (a network that is not an overlay).
    """
    name = network.spec.name
    if not network.spec.attachable:
        raise Denied(f"rpc error: code = PermissionDenied desc = network {name} not manually attachable")
    book = view.claims.books.get(network.id)
    if book is None:
        raise Unsupported(
            f"network {name} is no overlay network: attaching single containers to it is not supported"
        )
    if len(view.attached.get(node_id, ())) >= PER_NODE_MAX:
        raise Conflict(
            f"this node has {PER_NODE_MAX} containers on the swarm's networks, and may have no more"
        )
    address = _wanted(book, network, wanted) if wanted else ""
    taken = take(book, node_id, attachment_id, address)
    if taken is None:
        raise Conflict(no_address(view, network.id))
    return Attachment(attachment_id, node_id, TaskAddress(network.id, *taken), now)


def recount(
    view: View, node_id: str, in_use: Iterable[TaskAddress], new_id: NewId, now: float
) -> tuple[list[Attachment], list[Attachment]]:
    """Compares what the node's containers have with what it holds. Returns the attachments that nobody uses
    any more, and those that are missing: of a node that outlived a store that was restored. An address that
    somebody else was given meanwhile is not among them."""
    there = {_key(each): each for each in in_use}
    held = view.attached.get(node_id, {}).values()
    unused = [each for each in held if there.pop(_key(each.address), None) is None]
    missing = [Attachment(new_id(), node_id, each, now) for each in there.values() if _is_free(view, each)]
    room = PER_NODE_MAX - len(view.attached.get(node_id, ()))
    return unused, missing[: max(0, room)]


def _key(address: TaskAddress) -> tuple[str, str]:
    return address.network_id, address.address


def _is_free(view: View, address: TaskAddress) -> bool:
    book = view.claims.books.get(address.network_id)
    return book is not None and address.address not in book.holders


def _wanted(book: AddressBook, network: Network, text: str) -> str:
    """Returns the address with its prefix length. Errors: `Invalid`, `Conflict`."""
    subnet = ipaddress.ip_network(network.pools[0].subnet, strict=False)
    try:
        asked = ipaddress.ip_address(text)
    except ValueError as error:
        raise Invalid(f"invalid address: {text}") from error
    if asked.version != subnet.version or asked not in subnet:
        raise Invalid(
            f"invalid address {text}: it does not belong to network {network.spec.name}'s subnet {subnet}"
        )
    number = int(asked)
    address = book.text(number)
    if number in book.reserved or address in book.holders:
        raise Conflict(f"address {text} of network {network.spec.name} is already in use")
    return address
