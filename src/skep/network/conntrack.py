"""Connections that the kernel would go on to lead to a task that is gone: it asks no rule again for one that
it knows. UDP's go on as long as somebody sends; of TCP's the last two minutes are kept, in which a client may
use its port again. The kernel finds those of a few tasks: reading a hundred thousand others here would take
seconds.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from pyroute2 import NFCTSocket
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple

from skep.network.marks import OURS, OURS_MASK
from skep.runtime.errors import Unavailable

FEW = 8  # tasks that the kernel is asked for one by one: it reads its whole table for each, some 15 ms


def forget_tasks(addresses: Collection[str]) -> int:
    """Forgets connections to tasks that are gone. Returns how many there were. Errors: `Unavailable`."""
    gone = frozenset(addresses)
    with _flows() as known:
        if len(gone) <= FEW:
            asked = [NFCTAttrTuple(saddr=address) for address in gone]
            found = [entry for each in asked for entry in known.dump(OURS, OURS_MASK, tuple_reply=each)]
        else:
            found = list(known.dump(OURS, OURS_MASK))
        return sum(_forget(known, entry) for entry in found if _way(entry, "REPLY").saddr in gone)


def forget_untranslated(vips: Collection[str]) -> int:
    """Forgets connections to services' own addresses that began when there was no rule for them, as where
    this daemon has begun anew: they would go on without. Returns how many there were. Errors:
    `Unavailable`."""
    with _flows() as known:
        if len(vips) <= FEW:
            asked = [NFCTAttrTuple(daddr=address) for address in vips]
            found = [entry for each in asked for entry in known.dump(tuple_orig=each)]
        else:
            found = list(known.dump())
        return sum(_forget(known, entry) for entry in found if _answerer(entry) in vips)


def forget_udp(port: int, host: Collection[str], tasks: Collection[str]) -> int:
    """Forgets flows to a port of the host's addresses, but those to these tasks. Returns how many there were.
    Errors: `Unavailable`."""
    with _flows() as known:
        found = list(known.dump(tuple_orig=NFCTAttrTuple(proto=socket.IPPROTO_UDP, dport=port)))
        return sum(
            _forget(known, entry)
            for entry in found
            if _way(entry, "ORIG").daddr in host and _way(entry, "REPLY").saddr not in tasks
        )


@contextmanager
def _flows() -> Iterator[NFCTSocket]:
    try:
        with NFCTSocket() as known:
            yield known
    except (OSError, NetlinkError) as error:
        raise Unavailable(f"the kernel does not say which connections there are: {error}") from error


def _way(entry: Any, name: str) -> NFCTAttrTuple:
    return NFCTAttrTuple.from_netlink(socket.AF_INET, entry.get_attr(f"CTA_TUPLE_{name}"))


def _answerer(entry: Any) -> str | None:
    """Returns who is to answer, where that is whom the connection is to: nothing of it is translated."""
    to, by = _way(entry, "ORIG").daddr, _way(entry, "REPLY").saddr
    return to if to == by else None


def _forget(known: NFCTSocket, entry: Any) -> bool:
    try:
        known.entry("del", tuple_reply=_way(entry, "REPLY"))  # its other way may be known in a zone only
    except NetlinkError as error:
        if error.code != 2:  # ENOENT: it has just ended by itself
            raise
        return False
    return True
