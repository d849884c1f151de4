"""Which machines make up a cluster, beside the machines themselves: `clusters/NAME.json`."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from skep.machine.names import check_name
from skep.machine.store import MachineStore, make_directory, read_file, write_file
from skep.runtime.errors import Conflict, Corrupt, NotFound


class MachineCluster(Struct, frozen=True, rename="pascal"):
    """The machines that it was made of, by their names."""

    managers: tuple[str, ...]
    workers: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return self.managers + self.workers


class ClusterRecords:
    """The user's clusters, in the directory of the user's machines."""

    def __init__(self, machines: MachineStore) -> None:
        self._machines = machines
        self._path = machines.path / "clusters"

    def names(self) -> list[str]:
        return sorted(path.stem for path in self._path.glob("*.json"))

    def load(self, name: str) -> MachineCluster:
        """Errors: `NotFound`, `Corrupt`, `Invalid`."""
        path = self._path / f"{check_name(name)}.json"
        try:
            cluster = msgspec.json.decode(read_file(path), type=MachineCluster)
        except FileNotFoundError as error:
            there = ", ".join(self.names()) or "none"
            raise NotFound(f"there is no cluster {name} (there is: {there})") from error
        except msgspec.DecodeError as error:
            raise Corrupt(f"{path} cannot be read: {error}") from error
        for each in cluster.names:
            check_name(each)
        return cluster

    def extended(self, name: str, cluster: MachineCluster) -> MachineCluster:
        """Returns the cluster with the machines that it was made of before, so that its removal leaves none.
        Errors: `Conflict` where one is another cluster's; as of `load`."""
        for other in self.names():
            if other == check_name(name):
                continue
            theirs = self.load(other)
            for each in cluster.names:
                if each in theirs.names and self._machines.has(each):
                    raise Conflict(
                        f"{each} is a machine of the cluster {other}, whose removal would end it: name others"
                    )
        if name not in self.names():
            return cluster
        before = self.load(name)
        kept = {each for each in before.names if self._machines.has(each)}
        managers = [each for each in before.managers if each in kept and each not in cluster.workers]
        workers = [each for each in before.workers if each in kept and each not in cluster.managers]
        return MachineCluster(
            tuple(dict.fromkeys((*managers, *cluster.managers))),
            tuple(dict.fromkeys((*workers, *cluster.workers))),
        )

    def add(self, name: str, cluster: MachineCluster) -> None:
        """Keeps what is made of it, before it is. Errors: as of `extended`."""
        with self._machines.locked():
            self.save(name, self.extended(name, cluster))

    def save(self, name: str, cluster: MachineCluster) -> None:
        """Errors: `Invalid`."""
        make_directory(self._path)
        write_file(self._path / f"{check_name(name)}.json", msgspec.json.encode(cluster))

    def remove(self, name: str) -> None:
        (self._path / f"{check_name(name)}.json").unlink(missing_ok=True)
