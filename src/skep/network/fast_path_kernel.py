"""The fast path's program in the kernel, on devices, and what it knows of ports. Blocking.

Nothing depends on it: packets take the way through the host's rules without it. So a device that has gone
meanwhile is no failure, and what there is of a process before, or of another skep, is taken over where it is
the same program, with the connections that it knows, and replaced where it is not.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from importlib import resources
from ipaddress import IPv4Address

import structlog

from skep.network.bpf import Bpf, BpfMap, BpfProgram
from skep.network.diff import Changes
from skep.network.fast_path import (
    Counts,
    is_quiet,
    packed,
    packed_service,
    unpacked,
    unpacked_counts,
    unpacked_service,
)
from skep.network.nftables import Nftables
from skep.network.objects import FastPort, FastService, FastTunnel, Object, Port, Tunnel
from skep.runtime.errors import SkepError, Unavailable

log = structlog.get_logger()

SENT, CAME = "skep_sent", "skep_came"  # the programs: of ports, of tunnels
PORTS, SERVICES, COUNTS = "skep_ports", "skep_services", "skep_counts"
FLOWS, FULL = "skep_flows", "skep_full"
SWEEP_EVERY_S = 300.0  # 131,072 connections are looked at in half a second
_LOOPBACK = 1  # its device's number, in every network namespace
_GONE = "#"  # begins the name of a device that has none any more: its number follows


class FastPaths:
    """Of one host, used by one thread at a time."""

    def __init__(self) -> None:
        self._indexes: dict[str, int] = {}  # of ports that the program knows: also of those that went since
        self._loaded: dict[str, BpfProgram] | None = None
        self._is_adopted = False
        self._refused = 0  # connections that did not fit, when it was looked the last time
        self._swept_at = -SWEEP_EVERY_S

    @cached_property
    def is_possible(self) -> bool:
        """True where this kernel can do all of it. Tries it on the loopback device, for a moment."""
        try:
            self._bpf.try_at(_LOOPBACK, self._programs[CAME])
        except SkepError as error:
            log.info("fast_path.unavailable", reason=str(error))
            return False
        return True

    def found(self, tunnels: Collection[Tunnel], ports: Collection[Port]) -> Iterator[Object]:
        """Yields what there is of it on these devices, and of others what the program still knows."""
        self._indexes = {}
        attached = self._attached([*(each.name for each in tunnels), *(each.name for each in ports)])
        is_loaded = self._loaded is not None  # that costs 25 MB, for overlay networks only
        if not (attached or is_loaded) or not self.is_possible:
            return
        self._adopt(frozenset(attached.values()))
        for tunnel in tunnels:
            if (number := attached.get(tunnel.name)) is not None:
                yield FastTunnel(tunnel.name, number == self._programs[CAME].id)
        known = dict(self._known())
        for name in {*known, *(each.name for each in ports)}:
            port, number = known.get(name), attached.get(name)
            if port is not None and number == self._programs[SENT].id:
                yield port
            elif port is not None or number is not None:
                yield FastPort(name, "", "", "", "")  # not as any is wanted
        for key, value in self._items(SERVICES):
            yield unpacked_service(str(IPv4Address(key)), value)

    def sweep(self, now: float) -> None:
        """Forgets connections of which nobody has said that they ended, where others have not fitted. `now`:
        seconds since this machine's start."""
        if self._loaded is None:
            return
        refused = sum(int.from_bytes(value, sys.byteorder) for _, value in self._items(FULL))
        is_full, self._refused = refused != self._refused, refused
        if is_full and now - self._swept_at >= SWEEP_EVERY_S:
            self._swept_at = now
            gone = [key for key, value in self._items(FLOWS) if is_quiet(value, now)]
            log.warning("fast_path.full", forgotten=len(gone))
            for key in gone:
                self._bpf.drop(self._map(FLOWS), key)

    def carry_out(self, changes: Changes) -> list[str]:
        """Does what is to be done of it; returns what fails, for people. One device that takes no program, as
        it shares its filters with others, is no reason to leave out the rest."""
        failed = {}
        for do, those in ((self._drop, changes.drops), (self._put, changes.puts)):
            for each in those:
                if isinstance(each, FastPort | FastTunnel | FastService):
                    try:
                        do(each)
                    except SkepError as error:
                        failed[each.key] = f"{each.key}: {error}"
        if not failed:
            return []
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        return [f"the fast path between containers: {next(iter(failed.values()))}{more}"]

    def counts(self) -> dict[str, Counts]:
        """Returns what was led to services' addresses."""
        if self._loaded is None:
            return {}
        return {str(IPv4Address(key)): unpacked_counts(value) for key, value in self._items(COUNTS)}

    def close(self) -> None:
        """Lets go of it; what is attached goes on."""
        for each in (self._loaded or {}).values():
            each.close()
        self._loaded, self._is_adopted = None, False

    def _put(self, each: FastPort | FastTunnel | FastService) -> None:
        if isinstance(each, FastService):
            self._put_service(each)
            return
        name = each.key
        try:
            index = _index(name)
            self._bpf.attach(index, self._programs[SENT if isinstance(each, FastPort) else CAME])
            if isinstance(each, FastPort):  # others send to it from now on: what it answers is known
                self._bpf.put(self._map(PORTS), _key(index), packed(each, _index))
                self._indexes[name] = index
        except Unavailable:
            if _found(name) is not None:
                raise

    def _drop(self, each: FastPort | FastTunnel | FastService) -> None:
        if isinstance(each, FastService):
            self._drop_service(each)
            return
        name = each.key
        index = _found(name)
        if isinstance(each, FastPort):
            for gone in (self._indexes.pop(name, None), index):
                if gone is not None:
                    self._bpf.drop(self._map(PORTS), _key(gone))
        if index is not None:
            self._bpf.detach(index)

    def _put_service(self, each: FastService) -> None:
        key = IPv4Address(each.vip).packed
        if self._bpf.get(self._map(COUNTS), key) is None:
            self._bpf.put(self._map(COUNTS), key, bytes(self._map(COUNTS).value_size))
        self._bpf.put(self._map(SERVICES), key, packed_service(each))

    def _drop_service(self, each: FastService) -> None:
        for name in (SERVICES, COUNTS):
            self._bpf.drop(self._map(name), IPv4Address(each.vip).packed)

    def _attached(self, names: Iterable[str]) -> dict[str, int]:
        """Returns the ids of the programs of those devices that have one."""
        devices = ((name, index) for name in names if (index := _found(name)) is not None)
        try:
            found = {name: self._bpf.attached(index) for name, index in devices}
        except Unavailable:
            return {}  # without the library
        return {name: number for name, number in found.items() if number is not None}

    def _adopt(self, attached: Collection[int]) -> None:
        """Takes over, once, what a process before has: its programs; or the maps of another skep's, where
        they are as ours. They know connections."""
        if self._is_adopted:
            return
        self._is_adopted = True
        own = dict(self._programs)
        there = [program for each in attached if (program := self._bpf.program(each)) is not None]
        known = {each.name: each for each in there if shares(each, own.get(each.name))}
        if known.keys() == own.keys() and known[CAME].map_ids.items() <= known[SENT].map_ids.items():
            if all(known[name].tag == own[name].tag for name in own):
                self._loaded = known
            else:
                with contextlib.suppress(Unavailable):  # the own ones are there
                    self._loaded = self._bpf.load(self._image, (SENT, CAME), known[SENT].maps)
        for each in (*own.values(), *there):
            if each not in self._programs.values():
                each.close()

    def _known(self) -> Iterator[tuple[str, FastPort]]:
        for key, value in self._items(PORTS):
            index = int.from_bytes(key, sys.byteorder)
            name = _name(index) or f"{_GONE}{index}"
            self._indexes[name] = index
            yield name, unpacked(name, value, _name)

    def _items(self, name: str) -> Iterator[tuple[bytes, bytes]]:
        where = self._map(name)
        for key in list(self._bpf.keys(where)):
            if (value := self._bpf.get(where, key)) is not None:
                yield key, value

    @cached_property
    def _bpf(self) -> Bpf:
        return Bpf()

    @property
    def _programs(self) -> dict[str, BpfProgram]:
        if self._loaded is None:
            self._loaded = self._bpf.load(self._image, (SENT, CAME))
        return self._loaded

    @property
    def _image(self) -> bytes:
        return resources.files("skep.network").joinpath("fast_path.bpf.o").read_bytes()

    def _map(self, name: str) -> BpfMap:
        return self._programs[SENT].maps[name]


def remove_earlier(nftables: Nftables) -> None:
    """Takes away what an earlier skep had in the program's place: rules of nftables for devices."""
    with contextlib.suppress(Unavailable):  # a kernel that knows no such tables has none
        nftables.run("add table netdev skep\ndelete table netdev skep\n")


def shares(found: BpfProgram, own: BpfProgram | None) -> bool:
    """True for a program whose maps are the own one's in every way."""
    if own is None or found.maps.keys() != own.maps.keys():
        return False
    return all(found.maps[name].shape == own.maps[name].shape for name in own.maps)


def _found(name: str) -> int | None:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return None


def _index(name: str) -> int:
    index = _found(name)
    if index is None:
        raise Unavailable(f"there is no device {name}")
    return index


def _name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return ""


def _key(index: int) -> bytes:
    return index.to_bytes(4, sys.byteorder)
