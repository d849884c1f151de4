"""What a node may say: each message of an agent, and of a node that joins, is checked where it arrives. Pure.

A worker's certificate lets its holder send anything that decodes. All that is decided, stored and shown later
takes these checks for granted: known states, times that a calendar has, numbers that can be added up, texts
that do nothing to the terminal or the shell they come to. What depends on the swarm (whose address is it?) is
for those who know it. Errors: `Invalid`, which says what was wrong; it ends the session. Of a description
that comes, `trimming` leaves out before what is merely of no use: a node is not lost for a label.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from typing import Any

from skep.model.bounds import ADDRESS_MAX_BYTES
from skep.model.host_network import HOST_NETWORK_OF_MAX_BYTES, HOST_NETWORKS_MAX, WORLD_BITS
from skep.model.kernel_net import COUNTED_MAX, NAMED_MAX
from skep.model.mesh import PARTS_SAID_MAX, is_host_address
from skep.model.resources import CPUS_MAX, MEMORY_MAX_BYTES
from skep.model.states import ACCEPTED, REJECTED, STATE_NAMES
from skep.model.task import TIME_MAX_S, TaskStatus
from skep.rpc import enrolment_messages, messages
from skep.rpc.description_checking import PLATFORM_MAX_BYTES, check_description
from skep.rpc.said_texts import ID, WORD, check_text, check_word, shown
from skep.runtime.errors import Invalid

PID_MAX = (1 << 31) - 1  # a process id of Linux is at most 2^22
EXIT_CODE_MIN, EXIT_CODE_MAX = -(1 << 31), (1 << 32) - 1  # Windows' are 32 bits, with or without a sign
NUMBER_MAX = (1 << 63) - 1  # of a question
PORT_MAX = 65_535
PROTOCOLS = ("tcp", "udp", "sctp")
FEATURES_MAX, FEATURE_MAX_BYTES = 64, 64  # three are known today; a later agent may have some more
NETWORK_MAX_BYTES = 255  # a name or an id
NAMES_MAX_BYTES = 512  # of one single container: DNS has names of 253, most have 20, and one or two aliases
IN_USE_MAX = 1000  # single containers of one node: a Linux bridge has 1,024 ports
REQUEST_MAX_BYTES = 8 << 10  # a certificate request is 400 bytes; with RSA's longest key 6 kB
DIGEST_MAX_BYTES = 128
DATA_KEYS_MAX, DATA_KEY_DIGEST_BYTES = 8, 32  # SHA-256 of two keys while the data key is changed, else of one
TOKEN_MAX_BYTES = 256  # a join token has 85
# Of one question about an overlay network. A name of DNS has 253 characters at most, an id 25.
ASKED_MAX, NAME_MAX_BYTES, ID_MAX_BYTES = 256, 255, 64
PARTS_OF_SERVICE_MAX = 1 << 20  # of a published service: each has some hundred tasks
FAILURES_MAX, FAILURE_MAX_BYTES = 16, 600  # sentences; agents say no more, whatever fails
# What a node has in its kernel: some twenty kinds, each object's name with a device's and an address.
OBJECT_KINDS_MAX, OBJECT_MAX_BYTES = 64, 200
COUNTED_OF_MAX_BYTES = 15  # what bytes are counted of: 255.255.255.255, or 65535/tcp
LOAD_MAX = float(1 << 31)  # of a host: tasks that wait for its processors, and Linux has fewer processes

REPORTED = frozenset(state for state in STATE_NAMES if ACCEPTED <= state <= REJECTED)  # what agents observe

_HOST_PORT = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})")


def check(message: messages.FromAgent) -> None:
    """Checks any message of an agent's but its statuses, which are checked when they are taken in."""
    checks = _CHECKS.get(type(message))
    if checks is not None:
        checks(message)


def check_enrolment(asked: enrolment_messages.Enrol) -> None:
    """Checks what a node that joins says; whether its token is good is for others to say."""
    check_word("its join token", asked.token, WORD, TOKEN_MAX_BYTES)
    check_word("its availability", asked.availability, ID, PLATFORM_MAX_BYTES)
    check_request(asked.request_pem)
    check_description(asked.description)


def check_statuses(items: Iterable[tuple[str, TaskStatus]]) -> None:
    """Checks a report. The longest one has 100,000 statuses: half a microsecond each."""
    for task_id, status in items:
        if not (
            status.state in REPORTED
            and 0.0 <= status.at <= TIME_MAX_S  # false for what is no number, too
            and 0.0 <= status.started_at <= TIME_MAX_S
            and 0 <= status.pid <= PID_MAX
            and EXIT_CODE_MIN <= status.exit_code <= EXIT_CODE_MAX
            and (not status.ports or all(map(_is_port, status.ports)))
            and status.container_id.isascii()
            and status.container_id.isprintable()  # a pattern takes as long as all else here
        ):
            raise Invalid(f"it reports of task {shown(task_id)} {_wrong_status(status)}")


def check_manager_address(text: str) -> None:
    """Checks where a manager says that it is reached, host:port; an empty text says nothing of it."""
    found = _HOST_PORT.fullmatch(text) if len(text) <= ADDRESS_MAX_BYTES else None
    if text and (found is None or not 0 < int(found[1]) <= PORT_MAX):
        raise Invalid(f"its manager's address {shown(text)} is none: it must be HOST:PORT")


def check_request(request_pem: bytes) -> None:
    """Checks the size of a request for a certificate; what it asks for is read where it is signed."""
    if len(request_pem) > REQUEST_MAX_BYTES:
        raise Invalid(
            f"its request for a certificate has {len(request_pem)} bytes, {REQUEST_MAX_BYTES} may be"
        )


def check_in_use(said: messages.HasAddresses) -> None:
    """Checks that what a node's containers have are addresses; of which network, is for the allocator."""
    in_use = said.in_use
    if len(in_use) > IN_USE_MAX:
        raise Invalid(f"it has {len(in_use)} single containers on networks, {IN_USE_MAX} may be")
    for each in in_use:
        check_word("a network's id", each.network_id, ID, NETWORK_MAX_BYTES)
        for text in (each.address, each.gateway):
            if not _is_interface(text):
                raise Invalid(f"it says that address {shown(text)} is in use, which is none")
    if said.names and len(said.names) != len(in_use):
        raise Invalid(f"it says names of {len(said.names)} single containers, and has {len(in_use)}")
    for names in said.names:
        for name in names:
            check_text("a name of a single container", name, NAMES_MAX_BYTES)
        if names_bytes(names) > NAMES_MAX_BYTES:
            raise Invalid(
                f"a single container has names of {names_bytes(names)} bytes, {NAMES_MAX_BYTES} may be"
            )


def names_bytes(names: Iterable[str]) -> int:
    """Returns how long names are together, each with what divides it from the next."""
    return sum(len(each.encode()) + 1 for each in names)


def check_applied(said: messages.MeshApplied) -> None:
    """Checks what a node says that it could not do: users read it."""
    if len(said.failures) > FAILURES_MAX:
        raise Invalid(f"it says {len(said.failures)} things of the mesh, {FAILURES_MAX} may be")
    for text in said.failures:
        check_text("what it says of the mesh", text, FAILURE_MAX_BYTES)


def _check_seen(said: messages.MeshSeen) -> None:
    """Checks what a node says that its kernel has: users read it."""
    seen = said.seen
    counts = [seen.missing_count, seen.surplus_count, *seen.objects.values(), *seen.connections.values()]
    counts += [count for each in seen.bytes.values() for count in (each.received, each.sent)]
    if not 0 <= said.number <= NUMBER_MAX or not all(0 <= each <= NUMBER_MAX for each in counts):
        raise Invalid("it counts what its kernel has in numbers that cannot be")
    named = [*seen.missing, *seen.surplus]
    kinds, counted = len(seen.objects), max(len(seen.connections), len(seen.bytes))
    if len(named) > 2 * NAMED_MAX or kinds > OBJECT_KINDS_MAX or counted > COUNTED_MAX:
        raise Invalid(f"it says more of its kernel than may be: {len(named)}, {kinds} and {counted} things")
    for text in (*named, *seen.objects, *seen.connections):
        check_text("what it says of its kernel", text, OBJECT_MAX_BYTES)
    for text in seen.bytes:
        check_text("what its kernel counts bytes of", text, COUNTED_OF_MAX_BYTES)
    check_applied(messages.MeshApplied(seen.failures))


def _check_usage(said: messages.UsageSaid) -> None:
    """Checks that what a node measured can be added up. Whose tasks these are, the taker knows."""
    if not 0 <= said.number <= NUMBER_MAX:
        raise Invalid(f"it answers a question with the number {said.number}")
    if len(said.tasks) > messages.TASKS_SAID_MAX:
        raise Invalid(f"it says what {len(said.tasks)} tasks take, {messages.TASKS_SAID_MAX} may be at once")
    host = said.host
    if not (
        0.0 <= host.cpu_cores <= CPUS_MAX  # false for what is no number, too
        and 0 <= host.memory_bytes <= MEMORY_MAX_BYTES
        and 0.0 <= host.load1 <= LOAD_MAX
    ):
        raise Invalid(
            f"it says that its host uses {host.cpu_cores} CPUs and {host.memory_bytes} bytes of memory at a"
            f" load of {host.load1}, which cannot be"
        )
    for each in said.tasks:
        if not (
            0.0 <= each.cpu_cores <= CPUS_MAX
            and 0 <= each.memory_bytes <= MEMORY_MAX_BYTES
            and 0 <= each.memory_limit_bytes <= MEMORY_MAX_BYTES
        ):
            raise Invalid(
                f"it says that task {shown(each.task_id)} takes {each.cpu_cores} CPUs and"
                f" {each.memory_bytes} of {each.memory_limit_bytes} bytes, which cannot be"
            )


def _check_host_networks(said: messages.HostNetworks) -> None:
    """Checks what a node says of its host's own networks: no other network may be there."""
    if len(said.networks) > HOST_NETWORKS_MAX:
        raise Invalid(f"its host has {len(said.networks)} networks, {HOST_NETWORKS_MAX} may be")
    for each in said.networks:
        check_text("what a network of its host's is of", each.of, HOST_NETWORK_OF_MAX_BYTES)
        if not _is_network(each.prefix):
            raise Invalid(f"its host's network {shown(each.prefix)} is none of IPv4, or all the world")


def _is_network(text: str) -> bool:
    """True for a network of IPv4 as everybody writes it, which is not all the world, or half of it."""
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError:
        return False
    return str(network) == text and network.prefixlen > WORLD_BITS


def check_data_address(text: str) -> None:
    """Checks where a node says that its tunnels end; an empty text says nothing of it."""
    if text and not is_host_address(text):
        raise Invalid(f"its data path's address {shown(text)} is none of a host")


def _check_register(said: messages.Register) -> None:
    check_data_address(said.data_addr)
    check_description(said.description)
    check_manager_address(said.manager_addr)
    _check_features(said.features)
    _check_mesh_parts(said.mesh_parts)


def _check_mesh_parts(parts: list[tuple[str, int, int]]) -> None:
    if len(parts) > PARTS_SAID_MAX:
        raise Invalid(f"it leads to parts of {len(parts)} services, {PARTS_SAID_MAX} may be")
    for service_id, number, count in parts:
        check_word("the id of a service", service_id, ID, ID_MAX_BYTES)
        if not 0 <= number < count <= PARTS_OF_SERVICE_MAX:
            raise Invalid(f"it leads to part {number} of {count} of a service, which cannot be")


def _check_tls(has: messages.HasTls) -> None:
    for digest in (has.issuer, has.trust):
        check_word("a digest of its certificate's", digest, ID, DIGEST_MAX_BYTES)


def _check_data_keys(has: messages.HasDataKeys) -> None:
    if len(has.digests) > DATA_KEYS_MAX or any(len(each) != DATA_KEY_DIGEST_BYTES for each in has.digests):
        raise Invalid(f"it says that it has {len(has.digests)} data keys, by digests that are none")


def _check_attach(asked: messages.Attach) -> None:
    if not 0 <= asked.number <= NUMBER_MAX:
        raise Invalid(f"its question has the number {asked.number}")
    check_text("the network it asks for", asked.network, NETWORK_MAX_BYTES)
    check_word("the address it asks for", asked.address, WORD, ADDRESS_MAX_BYTES)


def _check_overlay_ask(asked: messages.OverlayAsk) -> None:
    if not 0 <= asked.number <= NUMBER_MAX:
        raise Invalid(f"its question has the number {asked.number}")
    check_word("a network's id", asked.network_id, ID, NETWORK_MAX_BYTES)
    count = len(asked.names) + len(asked.addresses) + len(asked.services)
    if count > ASKED_MAX:
        raise Invalid(f"it asks for {count} things of a network at once, {ASKED_MAX} may be")
    for name in asked.names:
        check_text("a name that it asks for", name, NAME_MAX_BYTES)
    for address in asked.addresses:
        if not is_host_address(address):
            raise Invalid(f"it asks for the address {shown(address)}, which is none of a host")
    for service_id in asked.services:
        check_word("the id of a service", service_id, ID, ID_MAX_BYTES)


def _check_features(features: list[str]) -> None:
    if len(features) > FEATURES_MAX:
        raise Invalid(f"it understands {len(features)} features, {FEATURES_MAX} may be")
    for name in features:
        check_word("a feature", name, WORD, FEATURE_MAX_BYTES)


def _is_port(port: tuple[str, int, int]) -> bool:
    protocol, target, published = port
    return protocol in PROTOCOLS and 0 <= target <= PORT_MAX and 0 <= published <= PORT_MAX


def _wrong_status(status: TaskStatus) -> str:
    """Returns which part of a status cannot be."""
    if status.state not in REPORTED:
        return f"state {status.state}, which no task can be in"
    for what, at in (("the time", status.at), ("the start at", status.started_at)):
        if not 0.0 <= at <= TIME_MAX_S:
            return f"{what} {at}: it must be in seconds since 1970, before the year 10000"
    if not 0 <= status.pid <= PID_MAX:
        return f"process {status.pid}"
    if not EXIT_CODE_MIN <= status.exit_code <= EXIT_CODE_MAX:
        return f"exit code {status.exit_code}"
    wrong = next((port for port in status.ports if not _is_port(port)), None)
    return f"port {shown(wrong)}" if wrong is not None else f"container {shown(status.container_id)}"


def _is_interface(text: str) -> bool:
    """True for an address with its prefix length."""
    address, slash, length = text.partition("/")
    if not slash or not length.isascii() or not length.isdigit() or len(text) > ADDRESS_MAX_BYTES:
        return False
    try:
        return int(length) <= ipaddress.ip_address(address).max_prefixlen and "%" not in address
    except ValueError:
        return False


_CHECKS: dict[type, Callable[[Any], None]] = {
    messages.Register: _check_register,
    messages.Described: lambda said: check_description(said.description),
    messages.Renew: lambda asked: check_request(asked.request_pem),
    messages.HasTls: _check_tls,
    messages.HasDataKeys: _check_data_keys,
    messages.Manage: lambda asked: check_manager_address(asked.manager_addr),
    messages.Attach: _check_attach,
    messages.MeshApplied: check_applied,
    messages.MeshSeen: _check_seen,
    messages.OverlayAsk: _check_overlay_ask,
    messages.HasAddresses: check_in_use,
    messages.HostNetworks: _check_host_networks,
    messages.UsageSaid: _check_usage,
}
