"""What a node remembers of its swarm between starts: one small file, and a lock on the directory."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from pathlib import Path

import msgspec
import structlog
from msgspec import Struct

from skep.model.node import NodeDescription
from skep.rpc.certificates import write_file
from skep.runtime.errors import Corrupt, Invalid
from skep.runtime.ids import is_id

VERSION = 1
FORMER = "former-nodes.json"

log = structlog.get_logger()


class Membership(Struct, frozen=True, kw_only=True):
    """This node's part in a swarm. `peers` are the managers by node id, with their addresses, where this
    node is one of them."""

    version: int = VERSION
    node_id: str
    cluster_id: str
    role: str
    managers: list[str]
    listen: str = ""
    advertise: str = ""
    peers: dict[str, str] = {}
    leads: dict[str, int] = {}  # the newest that this node has followed (`agent.lead_fence`)
    data_path: str = ""  # the address for traffic between containers, where it is another: kept for its time
    described: NodeDescription | None = None  # what the node's engine said of it last

    @property
    def known_managers(self) -> list[str]:
        """Returns where managers may be: those the leader has told of, then others that this manager has
        heard of since. Its own session may not have stood for a while when it loses its copy of the store."""
        return list(dict.fromkeys([*self.managers, *self.peers.values()]))


class StateDir:
    """The directory of one node. Errors: `Invalid` when it cannot be used or another daemon has it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.chmod(0o700)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Invalid(
                f"the state directory cannot be used: {error} (run as root, or choose one with --state-dir)"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Invalid(f"another skepd runs on the state directory {path}") from error

    @property
    def certificates(self) -> Path:
        return self.path / "certificates"

    def load(self) -> Membership | None:
        """Returns None for a node that is in no swarm. Errors: `Corrupt`, which names the file."""
        file = self.path / "swarm.json"
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Corrupt(f"{file} cannot be read: {error}") from error
        try:
            found = msgspec.json.decode(data, type=Membership)
        except msgspec.MsgspecError as error:
            raise Corrupt(f"{file} cannot be read ({error}): restore it, or remove the directory") from error
        if found.version != VERSION:
            raise Corrupt(
                f"{file} is of layout {found.version}, this skepd knows {VERSION}: use the skep that wrote it"
            )
        return found

    def save(self, membership: Membership) -> None:
        try:
            write_file(self.path / "swarm.json", msgspec.json.format(msgspec.json.encode(membership)))
        except OSError as error:
            raise Invalid(f"the state directory cannot be written: {error}") from error

    def clear(self) -> None:
        """Forgets the swarm; the lock stays."""
        (self.path / "swarm.json").unlink(missing_ok=True)
        shutil.rmtree(self.path / "certificates", ignore_errors=True)
        self.clear_store()

    def clear_store(self) -> None:
        """Forgets this node's copy of the swarm's store."""
        for name in ("etcd", "keys"):
            shutil.rmtree(self.path / name, ignore_errors=True)

    def load_former(self) -> list[str]:
        """Returns the ids of nodes that this daemon was before, and that have left something on the engine.
        A file that cannot be read keeps nobody from starting: it is said, and taken for none."""
        file = self.path / FORMER
        try:
            found = msgspec.json.decode(file.read_bytes(), type=list[str])
        except FileNotFoundError:
            return []
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("former_nodes.not_read", file=str(file), error=str(error))
            return []
        if strange := [each[:100] for each in found if not is_id(each)]:
            log.warning("former_nodes.no_ids", file=str(file), ids=strange)
        return [each for each in found if is_id(each)]

    def save_former(self, node_ids: list[str]) -> None:
        """Errors: `Invalid` where it cannot be written."""
        file = self.path / FORMER
        try:
            if node_ids:
                write_file(file, msgspec.json.encode(node_ids))
            else:
                file.unlink(missing_ok=True)
        except OSError as error:
            raise Invalid(f"the state directory cannot be written: {error}") from error

    def tighten(self) -> None:
        """Takes from others what an earlier skep, or an earlier umask, let them read. Errors: `Invalid`."""
        for path in self.path.rglob("*"):
            try:
                mode = path.lstat().st_mode
                # A socket's mode is for those who were given it: no way leads to it through this directory.
                if not (stat.S_ISLNK(mode) or stat.S_ISSOCK(mode)) and mode & 0o077:
                    path.chmod(stat.S_IMODE(mode) & 0o700)
            except FileNotFoundError:
                continue  # etcd's own, of a life that ends just now
            except OSError as error:
                raise Invalid(f"the state directory cannot be used: {error}") from error

    def close(self) -> None:
        os.close(self._lock)
