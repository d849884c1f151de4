"""Who of several skepds on one host programs the mesh: real locks."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from skep.network import turn
from skep.network.turn import OF_ANOTHER_SWARM, Turn
from skep.runtime.errors import Unavailable


@pytest.fixture(autouse=True)
def _directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(turn, "DIRECTORY", tmp_path / "turns")


def test_one_has_it_until_it_gives_it_back() -> None:
    first, second = Turn(), Turn()
    assert [first.take("net1"), first.take("net1")] == [None, None]
    assert [second.take("net1"), second.take("other")] == ["", OF_ANOTHER_SWARM]
    assert first.take("other") is None  # it is in another swarm now
    assert [second.take("net1"), second.take("other")] == [OF_ANOTHER_SWARM, ""]
    first.give_back()
    assert list(turn.DIRECTORY.iterdir()) == []
    assert second.take("net1") is None
    assert first.take("net1") == ""
    second.give_back()


def test_no_other_user_can_take_it() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as taken:
        taken.bind("\0skep-mesh")  # how it was known before, and anybody could
        made = Turn()
        assert made.take("net1") is None
        assert turn.DIRECTORY.stat().st_mode & 0o777 == 0o700
        made.give_back()


def test_who_may_not_take_it_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn, "DIRECTORY", Path("/proc/skep-mesh"))
    with pytest.raises(Unavailable, match="the routing mesh needs root, with a lock in /proc/skep-mesh"):
        Turn().take("net1")
