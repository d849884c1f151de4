"""Addresses of tasks: decided together with their nodes, so that a task is written once and whole.

An address is taken in the view's book at once: what is decided later in the same pass must not get it too.
A task has its address until its result is written down. Each node has an address of its own on a network for
as long as it has tasks there: its bridge's. Cost: the tasks of services with networks, nothing for others.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from skep.model.task import PendingTask, Task, TaskAddress
from skep.store.addresses import AddressBook
from skep.store.view import View


def give(view: View, tasks: Sequence[Task]) -> tuple[Sequence[Task], Sequence[PendingTask]]:
    """Returns the tasks with their addresses, and those that have to wait for one, with the reason."""
    if not any(view.demand(*key).networks for key in {(t.service_id, t.spec_version) for t in tasks}):
        return tasks, ()
    addressed: list[Task] = []
    waiting: list[PendingTask] = []
    for task in tasks:
        found = _addresses(view, task)
        if isinstance(found, str):
            waiting.append(_pending(task, found))
        else:
            addressed.append(replace(task, addresses=found) if found else task)
    return addressed, waiting


def _addresses(view: View, task: Task) -> tuple[TaskAddress, ...] | str:
    """Takes one address of each network; all or none. Returns the reason where one is used up."""
    networks = view.demand(task.service_id, task.spec_version).networks
    found: list[TaskAddress] = []
    for network_id in networks:
        book = view.allocations.books.get(network_id)
        if book is None:
            continue  # the routing mesh's network was removed; of others nobody could who is in use
        given = take(book, task.node_id, task.id)
        if given is None:
            for address in found:
                view.allocations.release(address, task)
            return no_address(view, network_id)
        found.append(TaskAddress(network_id, *given))
    return tuple(found)


def take(book: AddressBook, node_id: str, holder: str, wanted: str = "") -> tuple[str, str] | None:
    """Returns an address for the holder and its node's; None where the network has too few left. `wanted`:
    the address it is to have, which must be free."""
    gateway = book.gateway_of(node_id)
    if book.free < (not wanted or book.is_of_range(wanted)) + (not gateway):
        return None
    if wanted:
        book.hold(wanted, holder)
    gateway = gateway or book.next_free()
    book.hold_gateway(node_id, gateway, holder)
    address = wanted or book.next_free()
    book.hold(address, holder)
    return address, gateway


def no_address(view: View, network_id: str) -> str:
    """Returns why somebody gets no address of a network."""
    network, book = view.networks[network_id], view.allocations.books[network_id]
    pool = network.pools[0]
    return (
        f"network {network.spec.name} has no free address: all {book.size} of {pool.ip_range or pool.subnet}"
        " are in use. What helps: one with a larger subnet (docker network create --subnet)"
    )


def _pending(task: Task, reason: str) -> PendingTask:
    return PendingTask(
        task.id,
        task.service_id,
        task.slot,
        task.spec_version,
        task.created_at,
        reason,
        task.run_at,
        task.attempt,
        "" if task.slot else task.node_id,
        refused_by="addresses",
    )
