"""Addresses for single containers of a node.

As with tasks, what is decided is taken in the view's book at once.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from msgspec.structs import replace

from skep.manager.allocator.tasks import no_address, take
from skep.model.attachment import Attachment
from skep.model.network import Network
from skep.model.task import TaskAddress
from skep.runtime.errors import Conflict, Denied, Invalid, Unsupported
from skep.runtime.ids import NewId
from skep.store.addresses import AddressBook
from skep.store.view import View

Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network

PER_NODE_MAX = 1000  # a Linux bridge has 1,024 ports; removing a node forgets them in one transaction
# Of the addresses that a network gives out, one node's single containers may have at most three quarters: the
# others' tasks and containers need some too, whatever that node says. Of the smallest networks, eight.
SHARE, SHARE_MIN = 0.75, 8


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
    book = view.allocations.books.get(network.id)
    if book is None:
        raise Unsupported(
            f"network {name} is no overlay network: attaching single containers to it is not supported"
        )
    if len(view.attached.get(node_id, ())) >= PER_NODE_MAX:
        raise Conflict(
            f"this node has {PER_NODE_MAX} containers on the swarm's networks, and may have no more"
        )
    share = _share(view, book)
    if _held_of(view, node_id, network.id, book) >= share:
        raise Conflict(f"this node has {share} containers on network {name}, and may have no more")
    address = _wanted(book, network, wanted) if wanted else ""
    taken = take(book, node_id, attachment_id, address)
    if taken is None:
        raise Conflict(no_address(view, network.id))
    return Attachment(attachment_id, node_id, TaskAddress(network.id, *taken), now)


def check_in_use(view: View, in_use: Iterable[TaskAddress]) -> None:
    """Checks what a node says that its containers have. Of a network that is gone it may not have heard yet.

    Errors: `Invalid` for what no manager can have given it.
    """
    subnets: dict[str, Subnet] = {}
    for each in in_use:
        network, book = view.networks.get(each.network_id), view.allocations.books.get(each.network_id)
        if network is None or book is None:
            continue
        if not network.spec.attachable:
            raise Invalid(f"it has a container on network {network.spec.name}, which is not attachable")
        if network.id not in subnets:
            subnets[network.id] = ipaddress.ip_network(network.pools[0].subnet, strict=False)
        for text in (each.address, each.gateway):
            if text not in book.holders and not _is_of(book, subnets[network.id], text):
                raise Invalid(f"it has {text} on network {network.spec.name}, which is no address of its own")


def recount(
    view: View,
    node_id: str,
    in_use: Iterable[TaskAddress],
    new_id: NewId,
    now: float,
    most: int = PER_NODE_MAX,
) -> tuple[list[Attachment], list[Attachment]]:
    """Compares what the node's containers have with what it holds. Returns the attachments that nobody uses
    any more, and at most so many that are missing: of a node that outlived a store that was restored. An
    address that somebody else was given meanwhile is not among them, nor more than a node may have."""
    there = {_key(each): each for each in in_use}
    held = view.attached.get(node_id, {}).values()
    unused = [each for each in held if there.pop(_key(each.address), None) is None]
    most = min(most, PER_NODE_MAX - len(held))
    missing: list[Attachment] = []
    counts: dict[str, int] = {}
    for each in there.values():
        if len(missing) >= most:
            break
        network_id = each.network_id
        book = view.allocations.books.get(network_id)
        if book is None or not _is_free(book, node_id, each):
            continue
        if network_id not in counts:
            counts[network_id] = _held_of(view, node_id, network_id, book)
        if counts[network_id] < _share(view, book):
            counts[network_id] += 1
            missing.append(Attachment(new_id(), node_id, each, now))
    return unused, missing


def renamed(
    view: View, node_id: str, in_use: Iterable[TaskAddress], names: Iterable[tuple[str, ...]]
) -> list[Attachment]:
    """Returns the node's attachments that have other names than they had; `names` are in the order of
    `in_use`, or fewer."""
    said = dict(zip(map(_key, in_use), names, strict=False))
    held = view.attached.get(node_id, {}).values()
    now = (replace(each, names=said.get(_key(each.address), ())) for each in held)
    return [each for each, before in zip(now, held, strict=True) if each != before]


def _key(address: TaskAddress) -> tuple[str, str]:
    return address.network_id, address.address


def _held_of(view: View, node_id: str, network_id: str, book: AddressBook) -> int:
    """Returns how many addresses that the network gives out the node's single containers have."""
    held = (each.address for each in view.attached.get(node_id, {}).values())
    return sum(each.network_id == network_id and book.is_of_range(each.address) for each in held)


def _share(view: View, book: AddressBook) -> int:
    """Returns how many addresses of a network one node's single containers may have."""
    return book.size if len(view.nodes) < 2 else max(SHARE_MIN, int(book.size * SHARE))


def _is_free(book: AddressBook, node_id: str, address: TaskAddress) -> bool:
    """True where nobody has the address, and nobody else that of the node's bridge."""
    if address.address in book.holders:
        return False
    is_own = book.holders.get(address.gateway, node_id) == node_id
    return is_own and book.gateway_of(node_id) in ("", address.gateway)


def _is_of(book: AddressBook, subnet: Subnet, text: str) -> bool:
    """True for an address of the subnet, written as we write them, that can be given to somebody."""
    try:
        number = int(ipaddress.ip_interface(text).ip)
    except ValueError:
        return False
    low, high = int(subnet.network_address), int(subnet.broadcast_address)
    return low <= number <= high and number not in book.reserved and book.text(number) == text


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
