"""The fast path's table as nftables' text, and back from its listings. Pure.

A device's chain is named by its rules, too, so that a listing of chains says all: nftables would list
the connections with the rules, and there may be a hundred thousand. Some kernels take a chain away with its
device and others keep it: what goes is made before, so that it is there in any case.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from skep.network.diff import Changes
from skep.network.fast_path import DIRECT, halves, of_network, sets
from skep.network.objects import FAST_TABLE, LED_ADDRESSES, FastPath, FastTable, LedAddress, Object, Port
from skep.runtime.errors import Corrupt

LIST_CHAINS = "list chains netdev"
LIST_LED = f"list set netdev {FAST_TABLE} {LED_ADDRESSES}"
_PRIORITY = 0
_TRIAL, _FORWARD = "skep-trial", "type filter hook forward priority 0;"


def begun(changes: Changes) -> str:
    """Returns what is to be done first, all at once; an empty text for nothing: who is led must be known
    before anybody can ask for it."""
    if any(isinstance(each, FastTable) for each in changes.drops):
        return f"add table netdev {FAST_TABLE}\ndelete table netdev {FAST_TABLE}\n"
    lines: list[str] = []
    for each in changes.drops:
        if isinstance(each, FastPath):
            lines += [f"{verb} chain netdev {FAST_TABLE} {each.chain}" for verb in ("add", "delete")]
    lines += [_element("delete", each) for each in changes.drops if isinstance(each, LedAddress)]
    led = [_element("add", each) for each in changes.puts if isinstance(each, LedAddress)]
    # What was sent to one while nobody knew of it is no connection to a container: of a large network a node
    # hears of an address when somebody has sent to it. Others are known again with their next packet.
    lines += [*led, f"flush set netdev {FAST_TABLE} {DIRECT}"] if led else []
    is_made = any(isinstance(each, FastTable) for each in changes.puts)
    return _text([f"add table netdev {FAST_TABLE}", *sets(), *lines]) if lines or is_made else ""


def made(hook: FastPath, table: str = FAST_TABLE) -> str:
    """Returns what makes a device's chain anew."""
    name, base = hook.chain, f'type filter hook ingress device "{hook.device}" priority {_PRIORITY}'
    return _text(
        [
            f"add chain netdev {table} {name} {{ {base}; policy accept; }}",
            f"flush chain netdev {table} {name}",
            *(f"add rule netdev {table} {name} {rule}" for rule in hook.rules),
        ]
    )


def trial() -> str:
    """Returns what a kernel and a library that can do all of this take; it leaves nothing."""
    hooks = of_network("lo", "lo", "02:6e:c0:00:02:01", "192.0.2.0/24", [Port("lo", "lo")])
    begin = _text([f"add table netdev {_TRIAL}", *sets(_TRIAL)])
    beside = [f"add table ip {_TRIAL}", f"add chain ip {_TRIAL} x {{ {_FORWARD} }}"]
    beside += [f"add rule ip {_TRIAL} x {rule}" for rule in halves().rules]
    end = [f"delete table {family} {_TRIAL}" for family in ("netdev", "ip")]
    return begin + "".join(made(each, _TRIAL) for each in hooks) + _text([*beside, *end])


def found(chains: str, led: str | None) -> Iterator[Object]:
    """Yields the table, the devices and the addresses of JSON listings; nothing where there is no table.
    Errors: `Corrupt` for one that cannot be understood."""
    try:
        if led is None:
            return
        yield FastTable()
        for entry in msgspec.json.decode(chains)["nftables"]:
            each = entry.get("chain")
            if each is not None and each["table"] == FAST_TABLE:
                name = str(each["name"])
                yield FastPath(name.split("-", 2)[-1], name)
        for entry in msgspec.json.decode(led)["nftables"]:
            for address in entry.get("set", {}).get("elem", ()):
                yield LedAddress(str(address))
    except (msgspec.MsgspecError, LookupError, TypeError, AttributeError) as error:
        raise Corrupt(
            f"what nftables lists of table netdev {FAST_TABLE} cannot be understood: {error!r}"
        ) from error


def _element(verb: str, each: LedAddress) -> str:
    return f"{verb} element netdev {FAST_TABLE} {LED_ADDRESSES} {{ {each.address} }}"


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
