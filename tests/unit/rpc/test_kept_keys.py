"""The files of a node's key and certificate: a crash at any point leaves one whole pair, and reading none."""

from __future__ import annotations

import errno
import itertools
import os
import tempfile
from pathlib import Path

import pytest

from skep.manager.ca.authority import Authority, new_root
from skep.rpc.certificates import NodeKeys, load_keys, save_keys
from skep.rpc.certificates import new_key_and_request as new_key
from skep.rpc.tls import client_context
from skep.runtime.errors import Corrupt, Unavailable

ROOT = new_root(1000.0)


class Crash(BaseException):
    """The power fails here."""


def keys() -> NodeKeys:
    key, request = new_key()
    certificate = Authority(*ROOT).sign(request, "n" * 25, "worker", "c", 1000.0, 3600)
    return NodeKeys(key, certificate, ROOT[0])


def save_until(directory: Path, made: NodeKeys, at: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Saves, and crashes at that change of a directory; returns whether it came that far."""
    steps = itertools.count()
    replace, unlink = os.replace, os.unlink

    def step() -> None:
        if next(steps) >= at:
            raise Crash

    def crashing_replace(self: Path, target: Path) -> None:
        step()
        replace(self, target)

    def crashing_unlink(self: Path, missing_ok: bool = False) -> None:
        step()
        if self.exists():
            unlink(self)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", crashing_replace)
        patched.setattr(Path, "unlink", crashing_unlink)
        try:
            save_keys(directory, made)
        except Crash:
            return True
    return False


@pytest.mark.parametrize("second", range(12))
@pytest.mark.parametrize("first", range(10))
def test_crashes_leave_a_whole_pair(
    tmp_path: Path, first: int, second: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = [keys(), keys(), keys()]
    save_keys(tmp_path, known[0])
    for at, made in zip((first, second), known[1:], strict=True):
        save_until(tmp_path, made, at, monkeypatch)
        assert load_keys(tmp_path) in known
    save_keys(tmp_path, known[2])
    assert load_keys(tmp_path) == known[2]
    assert len(list(tmp_path.iterdir())) == 3


def test_there_are_no_more_points_to_crash_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_keys(tmp_path, keys())
    assert save_until(tmp_path, keys(), 8, monkeypatch)
    assert not save_until(tmp_path, keys(), 12, monkeypatch)


def test_reading_while_they_are_written_takes_nothing_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may look at any time: reading once ended what it took for a crash's remains."""
    old, new = keys(), keys()
    save_keys(tmp_path, old)
    replace = os.replace
    seen = []

    def read_before(self: Path, target: Path) -> None:
        seen.append(load_keys(tmp_path))
        replace(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", read_before)
        save_keys(tmp_path, new)
    assert load_keys(tmp_path) == new
    assert seen[0] == old
    assert seen[-1] == new


def test_keys_that_do_not_fit_say_so() -> None:
    one, other = keys(), keys()
    with pytest.raises(Corrupt, match="cannot be used together"):
        client_context(NodeKeys(one.key_pem, other.certificate_pem, other.ca_pem))
    with pytest.raises(Corrupt, match="root certificate cannot be used"):
        client_context(NodeKeys(one.key_pem, one.certificate_pem, b"nothing"))


def test_keys_that_cannot_be_handed_over_may_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    made = keys()
    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "mkstemp", full)
        with pytest.raises(Unavailable, match="at the moment"):
            client_context(made)
    client_context(made)
