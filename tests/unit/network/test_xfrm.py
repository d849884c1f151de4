"""What the program `ip` says of IPsec, and what of it is taken for done."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from skep.network import xfrm
from skep.network.objects import EspPolicy, EspState
from skep.runtime.errors import Unavailable

STATE = EspState("192.0.2.1", "192.0.2.2", 0x84D23471, bytes(range(20)))
POLICY = EspPolicy("out", "192.0.2.1", 4790)
LISTED = """src 192.0.2.1 dst 192.0.2.2
\tproto esp spi 0x84d23471 reqid 23130 mode transport
\treplay-window 0\x20
\tanti-replay context: seq 0x0, oseq 0x5, bitmap 0x00000000
\tsel src 0.0.0.0/0 dst 0.0.0.0/0\x20
src 198.51.100.1 dst 198.51.100.2
\tproto esp spi 0x00000300 reqid 1 mode tunnel
\treplay-window 0\x20
src 192.0.2.1/32 dst 0.0.0.0/0 proto udp dport 4790\x20
\tdir out priority 0 ptype main\x20
\ttmpl src 0.0.0.0 dst 0.0.0.0
\t\tproto esp reqid 23130 mode transport
src 10.0.0.0/8 dst 10.0.0.0/8\x20
\tdir out priority 0 ptype main\x20
\ttmpl src 198.51.100.1 dst 198.51.100.2
\t\tproto esp reqid 1 mode tunnel
"""

Answer = Callable[[list[str], str], tuple[int, str, str]]


@pytest.fixture
def ip(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], None]:
    monkeypatch.setattr(xfrm.shutil, "which", lambda name: name)

    def use(answer: Answer) -> None:
        def program(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
            code, out, err = answer(list(arguments), given)
            return subprocess.CompletedProcess(arguments, code, out, err)

        monkeypatch.setattr(xfrm, "_program", program)

    return use


def test_ours_are_found_and_others_are_not(ip: Callable[[Answer], None]) -> None:
    ip(lambda arguments, given: (0, LISTED, ""))
    assert {(type(each), each.key) for each in xfrm.found()} == {
        (EspState, STATE.key),
        (EspPolicy, POLICY.key),
    }


@pytest.mark.parametrize(
    "said",
    [
        "BusyBox v1.35.0 multi-call binary.\nUsage: ip [OPTIONS]",
        "Cannot open netlink socket: Protocol not supported",
        "RTNETLINK answers: Protocol not supported",
        "Error: Requested AEAD algorithm not found.",
    ],
)
def test_an_ip_that_cannot_is_a_node_that_cannot(ip: Callable[[Answer], None], said: str) -> None:
    ip(lambda arguments, given: (2, "", said) if "list" not in arguments else (0, "", ""))
    assert xfrm.why_not()
    assert list(xfrm.put([STATE]))


def test_what_is_said_done_and_not_there_is_not_done(ip: Callable[[Answer], None]) -> None:
    ip(lambda arguments, given: (0, "", ""))
    assert "not there afterwards" in xfrm.why_not()


def test_secrets_are_on_no_command_line_and_in_no_error(ip: Callable[[Answer], None]) -> None:
    seen: list[str] = []

    def answer(arguments: list[str], given: str) -> tuple[int, str, str]:
        seen.extend(arguments)
        assert STATE.secret.hex() in given
        return 1, "", f'Error: argument "0x{STATE.secret.hex()}" is wrong: ALGO-KEY is invalid'

    ip(answer)
    (failure,) = xfrm.put([STATE])
    assert STATE.secret.hex() not in failure + " ".join(seen)


def test_what_is_gone_may_be_removed(ip: Callable[[Answer], None]) -> None:
    ip(lambda arguments, given: (1, "", "RTNETLINK answers: No such process\nCommand failed -:1"))
    assert not list(xfrm.drop([STATE, POLICY]))


def test_a_list_that_fails_is_not_an_empty_one(ip: Callable[[Answer], None]) -> None:
    ip(lambda arguments, given: (1, "", "Cannot open netlink socket"))
    with pytest.raises(Unavailable, match="does not list"):
        xfrm.found()
