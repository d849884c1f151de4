"""IPsec's associations and policies in the kernel, by iproute2: pyroute2 has no xfrm.

All by standard input: a secret is never on a command line. What is ours is known by a number (`reqid`), which
a policy and the associations that serve it share.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence

from skep.network.esp import IN, OUT
from skep.network.objects import EspPolicy, EspState
from skep.network.seen_kernel import named
from skep.runtime.errors import Unavailable

REQID = 0x5A5A
_WAIT_S = 10  # ten thousand associations take half a second
_AEAD, _ICV_BITS = "rfc4106(gcm(aes))", 128  # the IV is counted by the kernel, from a random begin
# Of addresses for documentation (RFC 5737), which nobody has: where this can be made, ESP is there.
_TRIAL = "192.0.2.1", "192.0.2.2"
_STATE = re.compile(
    r"^src (?P<source>\S+) dst (?P<to>\S+)\n\s+proto esp spi (?P<spi>0x[0-9a-f]+).* reqid (?P<reqid>\d+)",
    re.M,
)
_POLICY = re.compile(
    r"^src (?P<source>\S+) dst (?P<to>\S+) proto udp dport (?P<port>\d+)\s*\n\s+dir (?P<direction>\w+)"
    r".*\n(?:\s+mark .*\n)?\s+tmpl .*\n\s+proto esp (?:spi \S+ )?reqid (?P<reqid>\d+)",
    re.M,
)
_KERNELS_WORDS = ("RTNETLINK answers:", "Error:")
_OF_ARGUMENTS = ("Error: argument", "Error: either")  # iproute2's own, which repeats what it was given
_GONE = ("RTNETLINK answers: No such process", "RTNETLINK answers: No such file or directory")
_ANY, _HOST = "0.0.0.0/0", "/32"

Esp = EspPolicy | EspState


def why_not() -> str:
    """Returns why this host cannot encrypt, for people; empty where it can: it is tried."""
    if shutil.which("ip") is None:
        return "the program ip is missing: apt-get install iproute2"
    trial = EspState(*_TRIAL, os.getpid() | 1 << 31, bytes(20))  # of this process: others try, too
    list(drop([trial]))  # of one that was killed in between
    failures = list(put([trial]))
    try:
        is_there = trial.key in {each.key for each in found()}
    except Unavailable as error:
        return str(error)
    failures += drop([trial])
    if failures or not is_there:
        return f"its kernel does not take ESP (IPsec): {next(iter(failures), 'it was not there afterwards')}"
    return ""


def found() -> list[Esp]:
    """Returns what of ours there is; nothing where this host cannot encrypt. Errors: `Unavailable`."""
    if shutil.which("ip") is None:
        return []
    states = _listed("state", "list", "nokeys")
    policies = _listed("policy", "list")
    return [*_states(states), *_policies(policies)]


def put(those: Sequence[Esp]) -> Iterator[str]:
    """Makes them. Yields what fails, for people."""
    yield from _batch(those, "made", _put_line)


def drop(those: Sequence[Esp]) -> Iterator[str]:
    """Takes them away. Yields what fails, for people."""
    yield from _batch(those, "removed", _drop_line)


def _states(text: str) -> Iterator[EspState]:
    for each in _STATE.finditer(text):
        if int(each["reqid"]) == REQID:
            yield EspState(each["source"], each["to"], int(each["spi"], 16))


def _policies(text: str) -> Iterator[EspPolicy]:
    for each in _POLICY.finditer(text):
        address = each["source"] if each["direction"] == OUT else each["to"]
        if int(each["reqid"]) == REQID and address.endswith(_HOST):
            yield EspPolicy(each["direction"], address.removesuffix(_HOST), int(each["port"]))


def _put_line(each: Esp) -> str:
    if isinstance(each, EspPolicy):
        return f"xfrm policy update {_selector(each)} tmpl proto esp reqid {REQID} mode transport"
    kind = f"aead {_AEAD} 0x{each.secret.hex()} {_ICV_BITS}"
    return f"xfrm state add {_id(each)} reqid {REQID} mode transport {kind}"


def _drop_line(each: Esp) -> str:
    if isinstance(each, EspPolicy):
        return f"xfrm policy delete {_selector(each)}"
    return f"xfrm state delete {_id(each)}"


def _id(each: EspState) -> str:
    return f"src {each.source} dst {each.to} proto esp spi {each.spi:#x}"


def _selector(each: EspPolicy) -> str:
    own = f"{each.address}{_HOST}"
    source, to = (_ANY, own) if each.direction == IN else (own, _ANY)
    return f"src {source} dst {to} proto udp dport {each.port} dir {each.direction}"


def _batch(those: Sequence[Esp], what: str, line: Callable[[Esp], str]) -> Iterator[str]:
    if not those:
        return
    try:
        done = _program("-force", "-batch", "-", given="".join(f"{line(each)}\n" for each in those))
    except Unavailable as error:
        yield str(error)
        return
    all_said = _said(done.stderr)
    said = [each for each in all_said if what != "removed" or each not in _GONE]
    if done.returncode != 0 and not all_said:
        said = ["the program ip (iproute2) cannot do it"]  # busybox's knows no xfrm
    if said:
        yield f"{named(those[0])} could not be {what}: {said[0]}"


def _said(text: str) -> list[str]:
    """Returns the kernel's words without the command's, which may hold a secret."""
    lines = (each for each in text.splitlines() if each.startswith(_KERNELS_WORDS))
    return [each for each in lines if not each.startswith(_OF_ARGUMENTS)]


def _listed(*arguments: str) -> str:
    done = _program("xfrm", *arguments)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise Unavailable(f"the program ip does not list IPsec's associations: {said[0] if said else ''}")
    return done.stdout


def _program(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["ip", *arguments], input=given, check=False, capture_output=True, text=True, timeout=_WAIT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"the program ip does not answer: {error}") from error
