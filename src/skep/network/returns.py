"""Ways back to other nodes, many at once: a route and a rule for each node, for each of which pyroute2 takes
a third of a millisecond. See `netlink_wire`, and `return_rules` for what the rules are."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping, Sequence

from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST
from pyroute2.netlink.rtnl import RTM_DELROUTE, RTM_DELRULE, RTM_NEWROUTE, RTM_NEWRULE

from skep.network.netlink_wire import attribute, done, opened
from skep.network.objects import ReturnRoute, ReturnRule
from skep.network.return_rules import TABLES
from skep.network.seen import PROTOCOL

# Family, lengths of destination and source, type of service, table, then of a route its protocol, scope and
# type, of a rule two unused bytes and its action; flags.
_HEAD = struct.Struct("=BBBBBBBBI")
_U32 = struct.Struct("=I")
_OIF, _GATEWAY, _TABLE = 4, 5, 15  # of both, as far as they have it
_GOTO, _PRIORITY, _FWMARK, _FWMASK, _PROTOCOL = 4, 6, 10, 16, 21  # of rules
_UNICAST, _ONLINK = 1, 4
_TO_TABLE, _TO_RULE = 1, 2  # FR_ACT_TO_TBL, FR_ACT_GOTO
_NO_DEVICE = 0xFFFF_FFFF  # the kernel says that there is none
_FLAGGED = NLM_F_REQUEST | NLM_F_ACK

Return = ReturnRoute | ReturnRule


def put(those: Sequence[Return], devices: Mapping[str, int]) -> list[int]:
    """Makes them; a route takes the place of another one to that node. Returns an error's number for each, 0
    where there was none. Errors: `OSError`."""
    new = _FLAGGED | NLM_F_CREATE
    return _carried_out(those, devices, (RTM_NEWROUTE, new | NLM_F_REPLACE), (RTM_NEWRULE, new | NLM_F_EXCL))


def drop(those: Sequence[Return], devices: Mapping[str, int]) -> list[int]:
    """Takes them away; returns and errors as `put`."""
    return _carried_out(those, devices, (RTM_DELROUTE, _FLAGGED), (RTM_DELRULE, _FLAGGED))


def _carried_out(
    those: Sequence[Return], devices: Mapping[str, int], of_route: tuple[int, int], of_rule: tuple[int, int]
) -> list[int]:
    errors = [0] * len(those)
    with opened(socket.NETLINK_ROUTE) as line:
        for kind, (command, flags) in ((ReturnRoute, of_route), (ReturnRule, of_rule)):
            places = [n for n, each in enumerate(those) if isinstance(each, kind)]
            bodies = [_body(those[n], devices) for n in places]
            for n, error in zip(places, done(line, command, flags, bodies), strict=True):
                errors[n] = error
    return errors


def _body(each: Return, devices: Mapping[str, int]) -> bytes:
    if isinstance(each, ReturnRoute):
        head = _HEAD.pack(socket.AF_INET, 0, 0, 0, 0, PROTOCOL, 0, _UNICAST, _ONLINK)
        way = attribute(_GATEWAY, socket.inet_aton(each.via))
        return (
            head + _u32(_TABLE, TABLES + each.number) + way + _u32(_OIF, devices.get(each.bridge, _NO_DEVICE))
        )
    head = _HEAD.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, _TO_RULE if each.goto else _TO_TABLE, 0)
    to = _u32(_GOTO, each.goto) if each.goto else _u32(_TABLE, each.table)
    mark = _u32(_FWMARK, each.mark) + _u32(_FWMASK, each.mask)
    return head + to + mark + _u32(_PRIORITY, each.priority) + attribute(_PROTOCOL, bytes([PROTOCOL]))


def _u32(kind: int, value: int) -> bytes:
    return attribute(kind, _U32.pack(value))
