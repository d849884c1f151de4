"""The rules of ours among the engine's and the host's, by the program that the engine uses, too.

The engine's chains drop what comes from elsewhere for a container; a verdict of another table does not change
that.
Where there is no such program, nobody has rules of that kind.
"""

from __future__ import annotations

import shutil
import subprocess

from skep.model.mesh import BRIDGE_PREFIX
from skep.network.marks import OURS, OURS_MASK
from skep.network.objects import Accept
from skep.runtime.errors import Unavailable

USERS, FORWARD, INPUT = "DOCKER-USER", "FORWARD", "INPUT"
_WAIT_S = 5  # for another program that changes rules
_MARKED = f"-m connmark --mark {OURS:#x}/{OURS_MASK:#x}"
_TO, _ACCEPTED = "-m conntrack --ctreplsrc", "-j ACCEPT"  # both ways of connections that tasks answer
# From each of our bridges to its own address, and to no other one of the node; as the program lists it.
_AT_GATEWAY = "-m addrtype --dst-type LOCAL --limit-iface-in"
_NAMES = [
    f"-i {BRIDGE_PREFIX}+ -p {kind} -m {kind} --dport 53 {_AT_GATEWAY} -j ACCEPT" for kind in ("udp", "tcp")
]
_BETWEEN = f"-i {BRIDGE_PREFIX}+ -o {BRIDGE_PREFIX}+ -j ACCEPT"  # of one network: our own table sees to that


def accept_in() -> str:
    """Returns the chain in which the mesh has to be accepted; empty where nobody drops it."""
    if shutil.which("iptables") is None:
        return ""
    if _listed(USERS) is not None:
        return USERS
    return FORWARD if "-P FORWARD DROP" in (_listed(FORWARD) or ()) else ""


def found() -> list[Accept]:
    """Returns the rules of ours that there are."""
    if shutil.which("iptables") is None:
        return []
    return [
        Accept(chain, _subnet(rule))
        for chain in (USERS, FORWARD)
        for rule in _listed(chain) or ()
        if _is_ours(rule)
    ]


def put(each: Accept) -> None:
    """Adds the rule: last, but before the engine's own end of the chain. What users wrote there comes first,
    and may drop the mesh's packets as all others. Errors: `Unavailable`."""
    drop(each)  # one of before, for another subnet
    rules = [rule for rule in _listed(each.chain) or () if rule.startswith("-A")]
    end = f"-A {each.chain} -j RETURN"
    place = rules.index(end) + 1 if end in rules else len(rules) + 1
    if each.chain == FORWARD:
        place = 1  # others' chains end it
    _run("-I", each.chain, str(place), *f"{_MARKED} {_TO} {each.subnet} {_ACCEPTED}".split())


def drop(each: Accept) -> None:
    """Takes the rule away, however often it is there."""
    for rule in _listed(each.chain) or ():
        if _is_ours(rule):
            _run("-D", *rule.split()[1:])


def admit() -> None:
    """Has containers' questions for names come in where the host has rules for what comes: those of ufw, and
    many users' own, drop what they do not know. What goes between containers the engine's rules accept; where
    somebody has flushed those, and left what they stood against (a firewalld that starts after the engine
    does), ours do. Errors: `Unavailable`."""
    if shutil.which("iptables") is None:
        return
    forwarded = _listed(FORWARD) or []
    is_wanted = f"-P {FORWARD} DROP" in forwarded and _listed(USERS) is None
    if not is_wanted:
        _dismiss(FORWARD, _BETWEEN, forwarded)
    elif f"-A {FORWARD} {_BETWEEN}" not in forwarded:
        _run("-I", FORWARD, "1", *_BETWEEN.split())
    rules = _listed(INPUT)
    if rules is None or rules == [f"-P {INPUT} ACCEPT"]:
        return
    for rule in _NAMES:
        if f"-A {INPUT} {rule}" not in rules:
            _run("-I", INPUT, "1", *rule.split())


def dismiss() -> None:
    """Takes those rules away. Errors: `Unavailable`."""
    if shutil.which("iptables") is None:
        return
    _dismiss(FORWARD, _BETWEEN, _listed(FORWARD) or [])
    rules = _listed(INPUT) or []
    for rule in _NAMES:
        _dismiss(INPUT, rule, rules)


def _dismiss(chain: str, rule: str, rules: list[str]) -> None:
    for _ in range(rules.count(f"-A {chain} {rule}")):  # daemons of one host may have been as fast
        _run("-D", chain, *rule.split())


def _is_ours(rule: str) -> bool:
    return _MARKED in rule and rule.endswith(_ACCEPTED)


def _subnet(rule: str) -> str:
    return rule.partition(f"{_TO} ")[2].partition(" ")[0]


def _listed(chain: str) -> list[str] | None:
    """Returns a chain's rules; None where there is no such chain."""
    done = _program("-S", chain)
    return done.stdout.splitlines() if done.returncode == 0 else None


def _run(*arguments: str) -> None:
    done = _program(*arguments)
    if done.returncode != 0:
        raise Unavailable(f"iptables {' '.join(arguments)}: {done.stderr.strip()}")


def _program(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["iptables", "-w", str(_WAIT_S), *arguments]
    try:
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=2 * _WAIT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"iptables does not answer: {error}") from error
