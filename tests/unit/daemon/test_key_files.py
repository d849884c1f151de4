"""A manager's key files: each crash between two writes leaves files that open, and sealed ones show nothing."""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import skep.daemon.keys as keys_module
from skep.daemon.keys import KeyFiles, sealer_of
from skep.daemon.state import StateDir
from skep.manager.ca.authority import Authority, new_root
from skep.manager.control.autolock import unlock_key
from skep.rpc.certificates import NodeKeys, new_key_and_request
from skep.runtime.errors import Corrupt, Invalid, WrongUnlockKey
from skep.store.seal import Sealer
from tests.unit.manager.control.test_unlock_key import cluster

DATA_KEY = bytes(range(32))
FIRST, SECOND = unlock_key(b"1" * 32), unlock_key(b"2" * 32)


class Crash(BaseException):
    """The power fails here."""


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDir]:
    made = StateDir(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def node_keys() -> NodeKeys:
    certificate, ca_key = new_root(1000.0)
    key, request = new_key_and_request()
    signed = Authority(certificate, ca_key).sign(request, "n" * 25, "manager", "c", 1000.0, 3600)
    return NodeKeys(key, signed, certificate)


def founded(state: StateDir, node_keys: NodeKeys, unlock: str) -> KeyFiles:
    files = KeyFiles(state)
    files.take(DATA_KEY, unlock)
    files.save(node_keys)
    return files


def reopened(state: StateDir, unlock: str) -> tuple[bytes | None, NodeKeys]:
    files = KeyFiles(state)
    assert files.open(unlock)
    return files.data_key, files.load()


def opens(files: KeyFiles, unlock: str) -> bool:
    try:
        return bool(unlock) and files.open(unlock)
    except WrongUnlockKey:
        return False


def test_a_sealed_directory_shows_neither_key(state: StateDir, node_keys: NodeKeys) -> None:
    founded(state, node_keys, FIRST)
    kept = b"".join(path.read_bytes() for path in state.path.rglob("*") if path.is_file())
    assert node_keys.key_pem not in kept
    assert node_keys.key_pem.splitlines()[1] not in kept
    assert KeyFiles(state).open() is False, "locked"
    with pytest.raises(WrongUnlockKey, match="swarm could not be unlocked: invalid key provided"):
        KeyFiles(state).open(SECOND)
    with pytest.raises(Invalid, match="invalid key string"):
        KeyFiles(state).open("nonsense")
    assert reopened(state, FIRST) == (DATA_KEY, node_keys)


def test_every_change_of_the_unlock_key(state: StateDir, node_keys: NodeKeys) -> None:
    files = founded(state, node_keys, "")
    for key in (FIRST, SECOND, SECOND, "", FIRST, ""):
        files.apply_unlock_key(cluster(key))
        assert KeyFiles(state).open() is not bool(key)
        assert reopened(state, key) == (DATA_KEY, node_keys)
        assert (b"SEALED" in (state.certificates / "swarm-node.key").read_bytes()) is bool(key)
    assert [oct(path.stat().st_mode & 0o777) for path in (state.path / "keys").iterdir()] == ["0o600"]


@pytest.mark.parametrize(("before", "after"), [("", FIRST), (FIRST, SECOND), (FIRST, "")])
@pytest.mark.parametrize("at", range(5))
def test_a_crash_at_any_write_leaves_files_that_open(
    state: StateDir,
    node_keys: NodeKeys,
    before: str,
    after: str,
    at: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And what was begun is done at the next start, as soon as the cluster is known."""
    files = founded(state, node_keys, before)
    writes = 0
    real = os.replace

    def crashing(self: Path, target: Path) -> Path:
        nonlocal writes
        writes += 1
        if writes > at:
            raise Crash
        real(self, target)
        return target

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", crashing)
        try:
            files.apply_unlock_key(cluster(after))
            assert at >= 1
        except Crash:
            pass
    again = KeyFiles(state)
    assert again.open() or opens(again, before) or opens(again, after)
    assert (again.data_key, again.load()) == (DATA_KEY, node_keys)
    again.apply_unlock_key(cluster(after))
    assert reopened(state, after) == (DATA_KEY, node_keys)
    assert KeyFiles(state).open() is not bool(after)


def test_a_directory_of_before_gets_a_key_and_keeps_it(state: StateDir, node_keys: NodeKeys) -> None:
    keys_module.save_keys(state.certificates, node_keys)
    files = KeyFiles(state)
    assert files.open()
    assert files.load() == node_keys
    assert reopened(state, "")[0] == files.data_key


def test_a_lost_or_damaged_file_is_never_replaced(state: StateDir, node_keys: NodeKeys) -> None:
    founded(state, node_keys, "")
    file = state.path / "keys" / "data-key"
    whole = file.read_bytes()
    for broken in (whole[:20], b"", whole.replace(b'"key": "', b'"key": "AAAA')):
        file.write_bytes(broken)
        with pytest.raises(Corrupt, match="data-key is damaged: restore it"):
            KeyFiles(state).open()
    file.unlink()
    with pytest.raises(Corrupt, match="restore it from a backup, or copy it from another manager"):
        KeyFiles(state).open()
    file.write_bytes(whole)
    assert reopened(state, "") == (DATA_KEY, node_keys)


def test_a_demoted_manager_keeps_no_data_key(state: StateDir, node_keys: NodeKeys) -> None:
    files = founded(state, node_keys, FIRST)
    files.drop_data_key()
    assert not (state.path / "keys").exists()
    assert KeyFiles(state).load() == node_keys


@pytest.mark.parametrize("unlock", ["", FIRST])
def test_a_backup_carries_the_data_key_as_it_is_kept(
    state: StateDir, node_keys: NodeKeys, unlock: str
) -> None:
    exported = founded(state, node_keys, unlock).exported()
    assert sealer_of(exported, unlock).open(Sealer(DATA_KEY).seal(b"x", "a"), "a") == b"x"
    assert (base64.b64encode(DATA_KEY) in exported) == (not unlock)
    if unlock:
        for wrong in ("", SECOND):
            with pytest.raises(WrongUnlockKey):
                sealer_of(exported, wrong)
    with pytest.raises(Corrupt):
        sealer_of(exported[:-5], unlock)


NEW_KEY = bytes(range(1, 33))


@pytest.mark.parametrize("unlock", ["", FIRST])
def test_a_new_data_key_keeps_the_older_until_it_is_not_needed(
    state: StateDir, node_keys: NodeKeys, unlock: str
) -> None:
    files = founded(state, node_keys, unlock)
    sealed, before = files.sealer.seal(b"x", "a"), files.exported()
    assert files.keep([NEW_KEY, DATA_KEY])
    assert not files.keep([NEW_KEY, DATA_KEY])
    assert reopened(state, unlock) == (NEW_KEY, node_keys)
    again = KeyFiles(state)
    again.open(unlock)
    assert again.sealer.open(sealed, "a") == b"x"
    assert sealer_of(again.exported(), unlock).open(sealed, "a") == b"x", "a backup made meanwhile"
    with pytest.raises(Corrupt):
        sealer_of(before, unlock).open(again.sealer.seal(b"y", "a"), "a")
    assert again.older == (DATA_KEY,)
    again.apply_unlock_key(cluster(SECOND))
    assert again.keep([NEW_KEY])
    last = KeyFiles(state)
    assert last.open(SECOND)
    assert (last.data_key, last.older, last.load()) == (NEW_KEY, (), node_keys)


@pytest.mark.parametrize("unlock", ["", FIRST])
@pytest.mark.parametrize("at", range(6))
def test_a_crash_while_the_data_key_is_changed_leaves_files_that_open(
    state: StateDir, node_keys: NodeKeys, unlock: str, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what was begun is done when it is said again, whether all of the steps are or only the last."""
    files, left = founded(state, node_keys, unlock), [at]
    old, new = files.sealer.seal(b"x", "a"), Sealer(NEW_KEY).seal(b"y", "a")
    for name in ("write_file", "save_keys"):
        write = getattr(keys_module, name)

        def crashing(*given: object, write: Callable[..., None] = write) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Crash
            write(*given)

        monkeypatch.setattr(keys_module, name, crashing)
    steps = ([DATA_KEY, NEW_KEY], [NEW_KEY])
    done = 0
    with contextlib.suppress(Crash):
        for step in steps:
            files.keep(step)
            done += 1
    found = KeyFiles(state)
    assert found.open(unlock)
    assert found.load() == node_keys
    if done < 2 and at < 3:  # the last write drops the older one
        assert found.sealer.open(old, "a") == b"x"
    if done:
        assert found.sealer.open(new, "a") == b"y"
    left[0] = 99
    found.keep([NEW_KEY])
    last = KeyFiles(state)
    assert last.open(unlock)
    assert (last.data_key, last.older, last.load()) == (NEW_KEY, (), node_keys)


@pytest.mark.parametrize("unlock", ["", FIRST])
def test_the_last_older_key_opens_and_seals_nothing_until_the_next_is_there(
    state: StateDir, node_keys: NodeKeys, unlock: str
) -> None:
    """This manager's own copy of the store may be of before the change."""
    files = founded(state, node_keys, unlock)
    sealed = files.sealer.seal(b"x", "a")
    for keys in ([DATA_KEY, NEW_KEY], [DATA_KEY], [DATA_KEY, NEW_KEY], [NEW_KEY]):
        files.keep(keys)  # the first try was given up
    third = bytes(range(2, 34))
    for steps in ([], [[NEW_KEY, third], [NEW_KEY]]):
        for keys in steps:
            files.keep(keys)
        files.apply_unlock_key(cluster(unlock))
        again = KeyFiles(state)
        assert again.open(unlock)
        for each in (files, again):
            assert each.keys == (NEW_KEY,), "what the leader is told"
            assert each.sealer.open(sealed, "a") == b"x"
            with pytest.raises(Corrupt):
                Sealer(DATA_KEY).open(each.sealer.seal(b"y", "a"), "a")
        assert sealer_of(again.exported(), unlock).open(sealed, "a") == b"x"
    for keys in ([NEW_KEY, third], [third, NEW_KEY], [third]):
        files.keep(keys)
        assert len(files.opening) <= 3
    assert files.opening == (third, NEW_KEY)
    with pytest.raises(Corrupt):
        files.sealer.open(sealed, "a")


def test_a_node_without_a_data_key_keeps_none(state: StateDir, node_keys: NodeKeys) -> None:
    """What the leader said to the manager that it was comes late."""
    files = founded(state, node_keys, FIRST)
    files.drop_data_key()
    assert not files.keep([NEW_KEY])
    assert not (state.path / "keys").exists()


def test_what_is_told_is_sealed_as_the_swarm_wants_it_from_its_first_write_on(
    state: StateDir, node_keys: NodeKeys
) -> None:
    """Autolock was turned on just now, and this manager has not heard of it yet."""
    files = founded(state, node_keys, "")
    written: list[bytes] = []
    real = os.replace

    def noting(self: Path, target: Path) -> Path:
        written.append(self.read_bytes())
        real(self, target)
        return target

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Path, "replace", noting)
        assert files.take_told([DATA_KEY, NEW_KEY], FIRST)
    assert written
    assert not any(base64.b64encode(NEW_KEY) in each for each in written)
    assert not any(node_keys.key_pem in each for each in written)
    assert not KeyFiles(state).open(), "locked"
    assert reopened(state, FIRST) == (DATA_KEY, node_keys)


def test_while_a_manager_leads_nobody_else_says_which_keys_it_has(
    state: StateDir, node_keys: NodeKeys
) -> None:
    files = founded(state, node_keys, "")
    files.lead(True)
    assert files.keep([DATA_KEY, NEW_KEY])
    assert not files.take_told([DATA_KEY], "")
    assert files.keys == (DATA_KEY, NEW_KEY)
    files.lead(False)
    assert files.take_told([NEW_KEY], "")
    assert files.keys == (NEW_KEY,)
