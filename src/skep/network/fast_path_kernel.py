"""The fast path's table in the kernel, by nftables. Blocking.

Nothing depends on it: packets take the way through the host's rules without it. So what fails takes all of it
away rather than to leave half of it, and a device that has gone meanwhile is no failure.
"""

from __future__ import annotations

from pathlib import Path

import structlog

from skep.network import fast_path_rules
from skep.network.diff import Changes
from skep.network.nftables import Nftables
from skep.network.objects import FastPath, FastTable, Object
from skep.runtime.errors import SkepError

log = structlog.get_logger()

_DEVICES = Path("/sys/class/net")


def is_possible(nftables: Nftables) -> bool:
    """True where this kernel, and this nftables, can do all of it."""
    try:
        nftables.run(fast_path_rules.trial())
    except SkepError as error:
        log.info("fast_path.unavailable", reason=str(error))
        return False
    return True


def found(nftables: Nftables) -> list[Object]:
    """Returns what there is of it. Errors: `Unavailable`, `Corrupt`."""
    led = nftables.list(fast_path_rules.LIST_LED)
    chains = nftables.list(fast_path_rules.LIST_CHAINS) if led is not None else None
    return list(fast_path_rules.found(chains or "", led))


def carry_out(nftables: Nftables, changes: Changes) -> list[str]:
    """Does what is to be done of it; returns what fails, for people."""
    try:
        if text := fast_path_rules.begun(changes):
            nftables.run(text)
        hooks = [each for each in changes.puts if isinstance(each, FastPath)]
        if hooks:
            _make(nftables, hooks)
    except SkepError as error:
        nftables.run(fast_path_rules.begun(Changes(drops=(FastTable(),))))
        return [f"the fast path between containers: {error}"]
    return []


def _make(nftables: Nftables, hooks: list[FastPath]) -> None:
    try:
        nftables.run("".join(map(fast_path_rules.made, hooks)))
    except SkepError:
        for each in hooks:
            try:
                nftables.run(fast_path_rules.made(each))
            except SkepError:
                if (_DEVICES / each.device).exists():
                    raise
