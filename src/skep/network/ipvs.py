"""IPVS in the kernel, in generic netlink's own words: which services it has, and which real servers.
Blocking.

Nothing of a service says who made it: those are ours whose firewall mark is one that nftables has for a port
of ours. Nobody else's is touched, and no number taken that somebody else uses.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pyroute2.netlink import NLM_F_ACK, NLM_F_REQUEST

from skep.network.modules import is_module, load
from skep.network.netlink_wire import asked, attribute, attributes, done, dumped, opened
from skep.network.objects import FirewallMark, Object, RealServer, VirtualService
from skep.network.seen_kernel import named
from skep.network.steering import PublishedPort
from skep.runtime.errors import Unavailable

_MODULES = ("ip_vs", "ip_vs_rr")
_THERE = Path("/proc/net/ip_vs")
_GENERIC, _CONTROL, _FAMILY = 16, 16, b"IPVS\0"  # NETLINK_GENERIC, GENL_ID_CTRL
_HEAD = struct.Struct("=BBxx")  # a command, and its version
_GET_FAMILY, _FAMILY_NAME, _FAMILY_ID = 3, 2, 1
_NEW_SERVICE, _SET_SERVICE, _DEL_SERVICE, _GET_SERVICE = 1, 2, 3, 4
_NEW_SERVER, _SET_SERVER, _DEL_SERVER, _GET_SERVER = 5, 6, 7, 8
_SERVICE, _SERVER = 1, 2  # attributes; within them:
_OF_FAMILY, _FWMARK, _SCHEDULER, _FLAGS, _TIMEOUT, _NETMASK = 1, 5, 6, 7, 8, 9
_ADDRESS, _PORT, _FORWARDING, _WEIGHT, _UPPER, _LOWER = 1, 2, 3, 4, 5, 6
_MASQUERADING = 0  # IP_VS_CONN_F_MASQ
_GONE = (errno.ENOENT, errno.ESRCH)
_FLAGGED = NLM_F_REQUEST | NLM_F_ACK
_U32 = struct.Struct("=I")
_TRIAL = VirtualService(0x5A5A_5A5A)  # none of ours, nor of Docker's: where this can be made, IPVS is there

Server = VirtualService | RealServer
Call = Callable[[socket.socket, int, Sequence[Server]], list[int]]
_NEW = {VirtualService: _NEW_SERVICE, RealServer: _NEW_SERVER}
_SET = {VirtualService: _SET_SERVICE, RealServer: _SET_SERVER}
_DEL = {VirtualService: _DEL_SERVICE, RealServer: _DEL_SERVER}


class Ipvs:
    """What a process knows of it. `taken` are marks of services that are not ours."""

    def __init__(self) -> None:
        self.marks: dict[PublishedPort, int] = {}  # of ports: also where somebody has flushed nftables' rules
        self.taken: frozenset[int] = frozenset()
        self._can = False

    def why_not(self) -> str:
        """Returns why this host has no IPVS, for people; empty where it has. Loads it."""
        if not self._can:
            reason = _tried()
            if reason:
                return reason
            self._can = True
        return ""

    def look(self, rules: Iterable[Object], is_wanted: bool) -> list[Object]:
        """Returns what of ours there is; `rules` are those that nftables has. Errors: `Unavailable`."""
        self.marks |= {(e.protocol, e.port): e.mark for e in rules if isinstance(e, FirewallMark)}
        if not (self.marks or is_wanted):
            return []
        try:
            return list(self._found())
        except OSError as error:
            raise Unavailable(f"the kernel does not say what IPVS has: {error}") from error

    def done(self, marks: Mapping[PublishedPort, int], is_whole: bool) -> None:
        """Hears which ports have a mark by now; with `is_whole` there is nothing else of ours."""
        self.marks = dict(marks) if is_whole else {**self.marks, **marks}

    def _found(self) -> Iterator[Object]:
        ours = frozenset(self.marks.values())
        with opened(_GENERIC) as line:
            family = _family(line)
            services = list(_services(line, family)) if family else []
            self.taken = frozenset(each.mark for each in services if each.mark not in ours)
            for service in services:
                if service.mark in ours:
                    yield service
                    yield from _servers(line, family, service)


def is_likely() -> bool:
    """True where the kernel has IPVS, or a module of it: nothing is loaded where nobody wants it."""
    return _THERE.exists() or all(map(is_module, _MODULES))


def put(those: Sequence[Server]) -> Iterator[str]:
    """Has them as they are to be. Yields what fails, for people."""
    yield from _carried_out(those, "made", _put)


def drop(those: Sequence[Server]) -> Iterator[str]:
    """Takes them away. Yields what fails, for people."""
    yield from _carried_out(those, "removed", _drop)


def _tried() -> str:
    for module in _MODULES:
        load(module)
    list(drop([_TRIAL]))  # of a process that was killed in between
    failures = [*put([_TRIAL]), *drop([_TRIAL])]
    needed = " and ".join(_MODULES)
    return f"the kernel needs the modules {needed} for that ({failures[0]})" if failures else ""


def _carried_out(those: Sequence[Server], what: str, call: Call) -> Iterator[str]:
    if not those:
        return
    try:
        with opened(_GENERIC) as line:
            family = _family(line)
            errors = call(line, family, those) if family else [errno.ENOENT] * len(those)
    except OSError as error:
        yield f"{named(those[0])} could not be {what}: {error}"
        return
    failed = [(each, code) for each, code in zip(those, errors, strict=True) if code]
    for each, code in failed[:1]:
        more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
        yield f"{named(each)}{more} could not be {what}: {os.strerror(code)}"


def _put(line: socket.socket, family: int, those: Sequence[Server]) -> list[int]:
    bodies = [_body(_NEW[type(each)], each) for each in those]
    errors = done(line, family, _FLAGGED, bodies)
    there = [n for n, code in enumerate(errors) if code == errno.EEXIST]
    again = done(line, family, _FLAGGED, [_body(_SET[type(those[n])], those[n]) for n in there])
    for n, code in zip(there, again, strict=True):
        errors[n] = code
    return errors


def _drop(line: socket.socket, family: int, those: Sequence[Server]) -> list[int]:
    errors = done(line, family, _FLAGGED, [_body(_DEL[type(each)], each) for each in those])
    return [0 if code in _GONE else code for code in errors]


def _family(line: socket.socket) -> int:
    """Returns the number of its messages; 0 where the kernel has no IPVS."""
    try:
        data = asked(line, _CONTROL, _HEAD.pack(_GET_FAMILY, 1) + attribute(_FAMILY_NAME, _FAMILY))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return 0
        raise
    (number,) = struct.unpack("=H", dict(attributes(data[_HEAD.size :]))[_FAMILY_ID])
    return int(number)


def _services(line: socket.socket, family: int) -> Iterator[VirtualService]:
    """Yields those of IPv4 that are known by a mark, whosever they are."""
    for data in list(dumped(line, family, _HEAD.pack(_GET_SERVICE, 1))):
        said = dict(attributes(dict(attributes(data[_HEAD.size :]))[_SERVICE]))
        if _FWMARK in said and struct.unpack("=H", said[_OF_FAMILY])[0] == socket.AF_INET:
            yield VirtualService(
                _number(said[_FWMARK]), said[_SCHEDULER].rstrip(b"\0").decode(errors="replace")
            )


def _servers(line: socket.socket, family: int, service: VirtualService) -> Iterator[RealServer]:
    body = _HEAD.pack(_GET_SERVER, 1) + attribute(_SERVICE, _service_key(service.mark))
    for data in list(dumped(line, family, body)):
        said = dict(attributes(dict(attributes(data[_HEAD.size :]))[_SERVER]))
        address = socket.inet_ntoa(said[_ADDRESS][:4])
        yield RealServer(service.mark, address, int.from_bytes(said[_PORT]), _number(said[_WEIGHT]))


def _body(command: int, each: Server) -> bytes:
    head = _HEAD.pack(command, 1)
    if isinstance(each, VirtualService):
        return head + attribute(_SERVICE, _service_key(each.mark) + _service(each))
    return head + attribute(_SERVICE, _service_key(each.mark)) + attribute(_SERVER, _server(each))


def _service_key(mark: int) -> bytes:
    return attribute(_OF_FAMILY, struct.pack("=H", socket.AF_INET)) + _u32(_FWMARK, mark)


def _service(each: VirtualService) -> bytes:
    flags = attribute(_FLAGS, struct.pack("=II", 0, 0xFFFF_FFFF))
    scheduler = attribute(_SCHEDULER, each.scheduler.encode() + b"\0")
    return scheduler + flags + _u32(_TIMEOUT, 0) + _u32(_NETMASK, 0xFFFF_FFFF)


def _server(each: RealServer) -> bytes:
    to = attribute(_ADDRESS, socket.inet_aton(each.address)) + attribute(_PORT, struct.pack("!H", each.port))
    bounds = _u32(_UPPER, 0) + _u32(_LOWER, 0)  # of connections: none
    return to + _u32(_FORWARDING, _MASQUERADING) + _u32(_WEIGHT, each.weight) + bounds


def _u32(kind: int, value: int) -> bytes:
    return attribute(kind, _U32.pack(value))


def _number(data: bytes) -> int:
    return int(_U32.unpack(data)[0])
