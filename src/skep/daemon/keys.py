"""A node's keys on its disk: the swarm's data key and the node's TLS key.

On a manager `keys/data-key` holds the data key, which seals the store's secrets. While the swarm's managers
lock themselves the file is sealed with the unlock key, and the TLS key's file is sealed with the data key:
whoever has the disk can neither read the store nor pose as the manager. Only one file depends on the unlock
key, so that rotating it is one atomic write; turning autolock on seals the TLS key first and the data key
last, turning it off goes the other way: a crash between leaves files that open.

    data key plain, TLS key plain      autolock off; workers have no data key
    data key plain, TLS key sealed     between the two steps
    data key sealed, TLS key sealed    autolock on: locked at the next start
"""

from __future__ import annotations

import base64
import binascii
import os
import shutil
import threading
from collections.abc import Callable, Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from skep.daemon.state import StateDir
from skep.manager.control.autolock import parse_unlock_key
from skep.model.cluster import Cluster
from skep.rpc.certificates import NodeKeys, load_keys, save_keys, write_file
from skep.runtime.errors import Corrupt, Invalid, WrongUnlockKey
from skep.store.seal import KEY_BYTES, Sealer

VERSION = 1
WRONG_KEY = "swarm could not be unlocked: invalid key provided"  # Docker's words
_BEGIN, _END = b"-----BEGIN SKEP SEALED KEY-----\n", b"-----END SKEP SEALED KEY-----\n"
_NODE_KEY = "certificates/swarm-node.key"
_DATA_KEY = "keys/data-key"


class _DataKeyFile(Struct, frozen=True, kw_only=True):
    """`key` is the data key itself, or sealed with the unlock key; so are the others. `older`: while the data
    key is changed, others that open what is stored. `retired`: what sealed before `key` did; empty where
    nothing has. An earlier skepd passes these over."""

    version: int = VERSION
    is_sealed: bool
    key: bytes  # base64 in JSON
    older: list[bytes] = []
    retired: bytes = b""


class KeyFiles:
    """The keys below one state directory. `data_key` is None on workers, and while locked.

    The key that sealed before the present one is `retired`: it is no more the swarm's, and seals nothing, but
    this manager's copy of the store may be of before the change, and alone left (`--force-new-cluster`). It
    is one at most: it goes when the next data key comes first.
    """

    def __init__(self, state: StateDir) -> None:
        self._state = state
        self._directory = state.path / "keys"
        self._file = self._directory / "data-key"
        self.data_key: bytes | None = None
        self.older: tuple[bytes, ...] = ()
        self.retired = b""
        self._unlock_key = ""  # the one that the data key's file is sealed with
        self._is_node_key_sealed: bool | None = None  # as its file was written or read last; None: not known
        self._leads = False  # this manager does: others do not say which keys it has
        # What may take long is done in threads (`save`, `apply_unlock_key`), one after the other.
        self._one = threading.RLock()

    @property
    def keys(self) -> tuple[bytes, ...]:
        """Returns the swarm's data keys, of which the first seals; none on workers, and while locked."""
        return () if self.data_key is None else (self.data_key, *self.older)

    @property
    def opening(self) -> tuple[bytes, ...]:
        """Returns these, and the retired one: all that this manager opens with."""
        retired = [self.retired] if self.retired and self.retired not in self.keys else []
        return (*self.keys, *retired)

    @property
    def sealer(self) -> Sealer:
        """What seals the store of this swarm. Errors: `Corrupt` where there is no data key."""
        if self.data_key is None:
            raise Corrupt("this node has no data key of the swarm")
        return Sealer(self.data_key, older=self.opening[1:])

    def open(self, unlock_key: str = "") -> bool:
        """Reads the data key; returns False where that needs the unlock key, and none was given.

        A state directory of a skep that sealed nothing gets a new data key. Errors: `Corrupt`;
        `Invalid` for what is no unlock key; `WrongUnlockKey`.
        """
        found = self._read()
        if found is None:
            self.take(os.urandom(KEY_BYTES), "")
        elif found.is_sealed and not unlock_key:
            return False
        else:
            plain = _opened(found, unlock_key)
            self.data_key, self.older, self.retired = plain.key, tuple(plain.older), plain.retired
            self._unlock_key = unlock_key.strip() if found.is_sealed else ""
        return True

    def take(
        self, data_key: bytes, unlock_key: str, older: tuple[bytes, ...] = (), retired: bytes = b""
    ) -> None:
        """Keeps a swarm's data key: its founder's, or what the leader gave a new manager.

        The node's own keys are saved after this (`save`). Errors: `Invalid` (disk full).
        """
        self._write(data_key, unlock_key, older, retired)
        self.data_key, self.older, self.retired = data_key, older, retired
        self._unlock_key = unlock_key

    def keep(self, keys: Sequence[bytes], unlock_key: str | None = None) -> bool:
        """Has exactly these data keys, of which the first seals, and retires the one that was first; returns
        False where that is so already, and on a node that has none. One that goes has sealed the node's TLS
        key, perhaps: that is written first, while the file has all. Where an
        `unlock_key` is given, it seals (`apply_unlock_key`), from the first write on. Errors: `Invalid` (disk
        full), `Corrupt`."""
        with self._one:
            if unlock_key is not None:
                self._apply(unlock_key)
            before = (self.data_key, *self.older)
            if self.data_key is None or tuple(keys) == before:
                return False
            first, *others = keys
            retired = self.retired if first == self.data_key else self.data_key
            if first != self.data_key or not set(before) <= set(keys):
                node_keys = self.load()
                wider = dict.fromkeys((first, self.data_key, *self.older, *others))
                self.take(first, self._unlock_key, tuple(wider)[1:], retired)
                self._save(node_keys, is_sealed=bool(self._unlock_key))
            self.take(first, self._unlock_key, tuple(others), retired)
            return True

    def close(self) -> None:
        """Forgets what was opened; the files stay as they are."""
        self.data_key, self.older, self.retired, self._unlock_key = None, (), b"", ""
        self._is_node_key_sealed, self._leads = None, False

    @property
    def is_sealed(self) -> bool:
        """True where what is kept opens with the unlock key only."""
        return bool(self._unlock_key)

    def exported(self) -> bytes:
        """Returns what a backup carries of the data key: sealed with the unlock key where there is one.
        `sealer_of` opens it. Errors: `Corrupt`."""
        try:
            return self._file.read_bytes()
        except OSError as error:
            raise Corrupt(f"the swarm's data key cannot be read: {error}") from error

    def drop_data_key(self) -> None:
        """This node is no manager any more: its files are a worker's again. Errors: `Invalid`, `Corrupt`."""
        with self._one:
            if self.data_key is None:
                return
            self._save(self.load(), is_sealed=False)
            self.close()
            shutil.rmtree(self._directory, ignore_errors=True)

    def load(self) -> NodeKeys:
        """Returns the node's keys and certificates. Errors: `Corrupt`, which names the file."""
        kept = load_keys(self._state.certificates)
        if not kept.key_pem.startswith(_BEGIN):
            return kept
        try:
            sealed = base64.b64decode(kept.key_pem.removeprefix(_BEGIN).removesuffix(_END))
        except binascii.Error:
            raise Corrupt(
                f"{self._state.certificates / 'swarm-node.key'} is damaged: restore it, or leave the swarm"
                " (--force) and join again"
            ) from None
        return replace(kept, key_pem=self.sealer.open(sealed, _NODE_KEY))

    def save(self, node_keys: NodeKeys) -> None:
        """Writes the node's keys, sealed where managers lock. Errors: `Invalid` (disk full)."""
        with self._one:
            self._save(node_keys, is_sealed=bool(self._unlock_key))

    def apply_unlock_key(self, cluster: Cluster) -> None:
        """Makes the files what the cluster says; does nothing where they are. To be called on a manager
        whenever its cluster may have changed. Errors: `Invalid` (disk full), `Corrupt`."""
        self._apply(cluster.unlock_key)

    def lead(self, leads: bool) -> None:
        """This manager leads from now on, or no more."""
        with self._one:
            self._leads = leads

    def take_told(self, keys: Sequence[bytes], unlock_key: str) -> bool:
        """Keeps what the leader says, sealed as the swarm wants it from the first write on. Returns False
        where it is not followed: on a node without a data key, and while this manager leads: a word of before
        must not take away what it has made. Errors: as `keep`."""
        with self._one:
            if self._leads or self.data_key is None:
                return False
            self.keep(keys, unlock_key)
            return True

    def _apply(self, wanted: str) -> None:
        with self._one:
            if self.data_key is None or self._is_as(wanted):
                return
            is_node_key_sealed = load_keys(self._state.certificates).key_pem.startswith(_BEGIN)
            if wanted and not is_node_key_sealed:
                self._save(self.load(), is_sealed=True)
            if wanted != self._unlock_key:
                self.take(self.data_key, wanted, self.older, self.retired)
            if not wanted and is_node_key_sealed:
                self._save(self.load(), is_sealed=False)
            self._is_node_key_sealed = bool(wanted)

    def is_as(self, cluster: Cluster) -> bool:
        """True where the files are what the cluster says, as far as is known without a look at them."""
        return self.data_key is None or self._is_as(cluster.unlock_key)

    def _is_as(self, wanted: str) -> bool:
        return wanted == self._unlock_key and self._is_node_key_sealed == bool(wanted)

    def _save(self, node_keys: NodeKeys, is_sealed: bool) -> None:
        if is_sealed:
            sealed = base64.b64encode(self.sealer.seal(node_keys.key_pem, _NODE_KEY))
            node_keys = replace(node_keys, key_pem=_BEGIN + sealed + b"\n" + _END)
        self._is_node_key_sealed = None  # where this fails in its middle
        save_keys(self._state.certificates, node_keys)
        self._is_node_key_sealed = is_sealed

    def _read(self) -> _DataKeyFile | None:
        """Returns None where no skep that seals was here: not even the directory is there."""
        if not self._directory.exists():
            return None
        broken = "restore it from a backup, or copy it from another manager of this swarm"
        try:
            found = msgspec.json.decode(self._file.read_bytes(), type=_DataKeyFile)
        except OSError as error:
            raise Corrupt(f"the swarm's data key cannot be read: {error}: {broken}") from error
        except msgspec.MsgspecError:
            raise Corrupt(f"{self._file} is damaged: {broken}") from None
        if found.version != VERSION:
            raise Corrupt(f"{self._file} is of layout {found.version}, this skepd knows {VERSION}")
        kept = (found.key, *found.older, *([found.retired] if found.retired else []))
        if not found.is_sealed and any(len(each) != KEY_BYTES for each in kept):
            raise Corrupt(f"{self._file} is damaged: {broken}")
        return found

    def _write(self, data_key: bytes, unlock_key: str, older: tuple[bytes, ...], retired: bytes) -> None:
        file = _DataKeyFile(is_sealed=bool(unlock_key), key=data_key, older=list(older), retired=retired)
        if unlock_key:
            sealer = Sealer(parse_unlock_key(unlock_key))
            file = _with_each(file, lambda key: sealer.seal(key, _DATA_KEY))
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_file(self._file, msgspec.json.format(msgspec.json.encode(file)))
        except OSError as error:
            raise Invalid(f"the swarm's data key cannot be stored: {error}") from error


def sealer_of(exported: bytes, unlock_key: str) -> Sealer:
    """Returns what opens a backup, with the keys that it carries. Errors: `Invalid`, `WrongUnlockKey`,
    `Corrupt`."""
    try:
        found = msgspec.json.decode(exported, type=_DataKeyFile)
    except msgspec.MsgspecError:
        raise Corrupt("the backup's data key cannot be read") from None
    if found.version != VERSION:
        raise Corrupt(f"the backup's data key is of layout {found.version}, this skepd knows {VERSION}")
    if found.is_sealed and not unlock_key:
        raise WrongUnlockKey(
            "the backup is of a swarm whose managers lock themselves: it takes its unlock key"
        )
    plain = _opened(found, unlock_key)
    return Sealer(plain.key, older=[*plain.older, *([plain.retired] if plain.retired else [])])


def _opened(file: _DataKeyFile, unlock_key: str) -> _DataKeyFile:
    """Returns the file with its keys plain. Errors: `Invalid`, `WrongUnlockKey`."""
    if not file.is_sealed:
        return file
    sealer = Sealer(parse_unlock_key(unlock_key))
    try:
        return _with_each(file, lambda sealed: sealer.open(sealed, _DATA_KEY))
    except Corrupt:
        raise WrongUnlockKey(WRONG_KEY) from None


def _with_each(file: _DataKeyFile, change: Callable[[bytes], bytes]) -> _DataKeyFile:
    """Returns the file with each key changed."""
    older, retired = [change(each) for each in file.older], file.retired
    return replace(file, key=change(file.key), older=older, retired=change(retired) if retired else b"")
