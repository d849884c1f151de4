"""A machine's skepd, asked about its swarm by mutual TLS: what it is in, and to join."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct

from skep.client.api import ApiClient, ApiError, UnreadableAnswer
from skep.machine.client_tls import machine_context
from skep.machine.record import Machine
from skep.runtime.errors import Conflict, Invalid, Unavailable, Unsupported
from skep.runtime.texts import printable

ASK_S = 15.0
JOIN_S = 60.0  # a manager that joins waits for etcd to take it in
ANSWER_BYTES_MAX = 1024 * 1024  # a host's /info has some kB; 64 hosts are asked at a time
LIST_BYTES_MAX = 64 * 1024 * 1024  # ten thousand nodes, of one manager
MANAGERS_MAX = 100  # a swarm has seven at most, that anybody would want
# What becomes part of what others are told, and of commands: nothing that a shell would take apart.
_WHERE = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,300}")
_ADDRESS = re.compile(r"\d+(?:\.\d+){3}(?::|$)|\[|.*:.*:")  # of IPv4, of IPv6: no interface's name
_TOKEN = re.compile(r"SWMTKN-[A-Za-z0-9-]{1,200}")
TEXT_BYTES_MAX = 400  # of an error's text, which a stranger may have written
PORT = 2377
CHOOSES = "auto"  # in place of an address: the host's own choice


class NodeMembership(Struct, frozen=True):
    """What a node is in, as its own skepd says it: `state` of Docker's (inactive, pending, active, error,
    locked); `managers`: where its managers are (HOST:PORT); `error`: what keeps it from being active."""

    state: str = "inactive"
    node_id: str = ""
    is_manager: bool = False
    managers: tuple[str, ...] = ()
    error: str = ""


class Tokens(Struct, frozen=True):
    worker: str
    manager: str


class SwarmMember(Protocol):
    """A node, or one to be. Errors: `Unavailable`, `Denied`, `ApiError` with the node's own words."""

    async def membership(self) -> NodeMembership: ...

    async def init(self) -> None:
        """Makes a swarm whose first manager it is."""

    async def join(self, token: str, managers: tuple[str, ...]) -> None: ...

    async def tokens(self) -> Tokens:
        """Of a manager."""

    async def node_ids(self) -> frozenset[str]:
        """Returns the nodes of its swarm, of a manager."""


class MachineMember:
    """A machine by its API. A connection for each call: thousands of machines are asked one after the other,
    and few of them twice. `advertise`: how others reach it, where that is not the machine's own address: an
    address or an interface there, or `CHOOSES`."""

    def __init__(self, machine: Machine, directory: Path, advertise: str = "") -> None:
        self._machine = machine
        self._directory = directory
        self._advertise = advertise

    async def _ask(
        self,
        method: str,
        path: str,
        body: object = None,
        timeout_s: float = ASK_S,
        bytes_max: int = ANSWER_BYTES_MAX,
    ) -> Any:
        context = machine_context(self._directory)
        client = ApiClient(self._machine.url, timeout_s, tls=context, answer_max_bytes=bytes_max)
        try:
            return await client.json(method, path, body)
        except UnreadableAnswer as error:
            raise Unavailable(f"what answers at {self._machine.url} is no Docker Engine") from error
        except ApiError as error:
            raise ApiError(printable(str(error), TEXT_BYTES_MAX), error.status) from error
        finally:
            await client.close()

    async def membership(self) -> NodeMembership:
        return read_membership(await self._ask("GET", "/info"), self._machine.url)

    async def init(self) -> None:
        await self._enter("/swarm/init", {"ListenAddr": f"0.0.0.0:{PORT}"})

    async def join(self, token: str, managers: tuple[str, ...]) -> None:
        await self._enter(
            "/swarm/join",
            {"ListenAddr": f"0.0.0.0:{PORT}", "JoinToken": token, "RemoteAddrs": list(managers)},
        )

    async def _enter(self, path: str, body: dict[str, object]) -> None:
        address = advertised(self._machine, self._advertise)
        await self._ask("POST", path, {**body, "AdvertiseAddr": address}, JOIN_S)

    async def tokens(self) -> Tokens:
        return read_tokens(await self._ask("GET", "/swarm"), self._machine.name)

    async def node_ids(self) -> frozenset[str]:
        try:
            return frozenset(str(each["ID"]) for each in await self.nodes())
        except (KeyError, TypeError) as error:
            raise Unavailable(f"{self._machine.name} does not say who is in its swarm") from error

    async def nodes(self) -> list[dict[str, Any]]:
        """Returns the nodes of its swarm, of a manager, as Docker's API has them."""
        return list(await self._ask("GET", "/nodes", bytes_max=LIST_BYTES_MAX) or ())

    async def services(self) -> list[dict[str, Any]]:
        """Returns services with how many of their tasks run, of a manager."""
        return list(await self._ask("GET", "/services?status=true", bytes_max=LIST_BYTES_MAX) or ())


def advertised(machine: Machine, wanted: str) -> str:
    """Returns the address that its skepd is told to tell others, empty where it is to choose by itself: what
    is `wanted`, or the address that the machine is reached at, where that is one. Behind a name, or NAT, it
    may have another."""
    if wanted:
        return "" if wanted == CHOOSES else wanted
    try:
        ipaddress.ip_address(machine.ssh.address)
    except ValueError:
        return ""
    return machine.ssh.address


def check_advertise(text: str, machines: int) -> str:
    """Returns what so many machines that join are to advertise. Errors: `Invalid`."""
    if text and not _WHERE.fullmatch(text):
        raise Invalid(
            f"--advertise-addr {text[:80]}: it is an address, an interface there (eth0), or {CHOOSES}"
        )
    if machines > 1 and _ADDRESS.match(text):
        raise Invalid(
            f"--advertise-addr {text}: an address is one machine's, and these are {machines}: name an"
            f" interface that each of them has (eth0), or {CHOOSES}"
        )
    return text


def read_membership(said: Any, url: str) -> NodeMembership:
    """Returns what an answer to /info says. Errors: `Unavailable` for one that cannot be."""
    try:
        swarm = said["Swarm"]
        managers = tuple(str(each["Addr"]) for each in swarm.get("RemoteManagers") or ())
        if len(managers) > MANAGERS_MAX or not all(map(_WHERE.fullmatch, managers)):
            raise Unavailable(f"what answers at {url} says that its managers are where none can be")
        return NodeMembership(
            state=printable(str(swarm["LocalNodeState"]), TEXT_BYTES_MAX),
            node_id=str(swarm.get("NodeID") or ""),
            is_manager=bool(swarm.get("ControlAvailable")),
            managers=managers,
            error=printable(str(swarm.get("Error") or ""), TEXT_BYTES_MAX),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise Unavailable(f"what answers at {url} is no Docker Engine") from error


def read_tokens(said: Any, name: str) -> Tokens:
    """Returns what a manager's answer to /swarm says. Errors: `Unavailable` for one that cannot be."""
    try:
        tokens = Tokens(str(said["JoinTokens"]["Worker"]), str(said["JoinTokens"]["Manager"]))
    except (KeyError, TypeError) as error:
        raise Unavailable(f"{name} does not say how to join its swarm") from error
    if not (_TOKEN.fullmatch(tokens.worker) and _TOKEN.fullmatch(tokens.manager)):
        raise Unavailable(f"{name} says tokens that are none")
    return tokens


def check_skepd(machine: Machine) -> Machine:
    """Returns it. Errors: `Unsupported` for one with a plain engine, `Conflict` for one that is
    half-made."""
    if not machine.is_whole:
        raise Conflict(
            f"it is half-made: {machine.why}. Go on with it: skep machine provision {machine.name}"
        )
    if not machine.skepd:
        raise Unsupported(
            f"it has a plain engine, and no skepd: skep machine provision --skepd {machine.name}"
        )
    return machine
