"""What of the swarm's own is given out: addresses and published ports. An index of the view, like its others.

The allocator claims here what it decides to give, before that is committed, so that nobody else is given the
same; what is committed is claimed once more, which changes nothing. Every call costs what it names.
"""

from __future__ import annotations

from skep.model.attachment import Attachment
from skep.model.network import Network
from skep.model.service import Endpoint
from skep.model.task import Task, TaskAddress
from skep.store.addresses import AddressBook

PortKey = tuple[str, int]  # protocol, published port


class Allocations:
    """`books` are by network; `ports` say which services publish a port, and in which mode."""

    def __init__(self) -> None:
        self.books: dict[str, AddressBook] = {}
        self.ports: dict[PortKey, dict[str, str]] = {}
        self._services: dict[str, set[tuple[str, str] | PortKey]] = {}  # service -> what it has claimed

    def add_network(self, network: Network) -> None:
        if network.pools and network.id not in self.books:
            self.books[network.id] = AddressBook(network)

    def drop_network(self, network_id: str) -> None:
        self.books.pop(network_id, None)

    # Services

    def claim(self, service_id: str, endpoint: Endpoint | None) -> None:
        """The service has, or is about to have, these ports and addresses."""
        if endpoint is None:
            return
        claimed = self._services.setdefault(service_id, set())
        for vip in endpoint.vips:
            book = self.books.get(vip.network_id)
            if vip.addr and book is not None:
                book.hold(vip.addr, service_id)
                claimed.add((vip.network_id, vip.addr))
        for port in endpoint.ports:
            if port.published_port:
                key = (port.protocol, port.published_port)
                self.ports.setdefault(key, {})[service_id] = port.publish_mode
                claimed.add(key)

    def settle(self, service_id: str, endpoint: Endpoint | None) -> None:
        """The service has these and no others: what else it had claimed is free again."""
        self.claim(service_id, endpoint)
        claimed = self._services.get(service_id)
        if not claimed:
            return
        kept: set[tuple[str, str] | PortKey] = set()
        if endpoint is not None:
            kept.update((vip.network_id, vip.addr) for vip in endpoint.vips)
            kept.update((port.protocol, port.published_port) for port in endpoint.ports)
        for one, other in claimed - kept:
            if isinstance(other, int):
                holders = self.ports[one, other]
                holders.pop(service_id, None)
                if not holders:
                    del self.ports[one, other]
            elif one in self.books:
                self.books[one].release(other, service_id)
        claimed &= kept
        if not claimed:
            del self._services[service_id]

    # Tasks, single containers

    def hold(self, task: Task) -> None:
        """The task has its addresses; one that has ended does not need them any more."""
        for address in task.addresses:
            book = self.books.get(address.network_id)
            if book is None:
                continue
            if task.result is not None:
                self.release(address, task)
                continue
            if book.holders.get(address.address) != task.id:  # else it was given here, with its node's
                book.hold(address.address, task.id)
                book.hold_gateway(task.node_id, address.gateway, task.id)

    def release(self, address: TaskAddress, holder: Task | Attachment) -> None:
        book = self.books.get(address.network_id)
        if book is not None:
            book.release(address.address, holder.id)
            book.release_gateway(holder.node_id, holder.id)

    def hold_attached(self, attachment: Attachment) -> None:
        """A single container has its address."""
        book = self.books.get(attachment.address.network_id)
        if book is not None:
            book.hold(attachment.address.address, attachment.id)
            book.hold_gateway(attachment.node_id, attachment.address.gateway, attachment.id)
