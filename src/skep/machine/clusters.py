"""Which machines make up a cluster, beside the machines themselves: `clusters/NAME.json`."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from skep.machine.names import check_name
from skep.machine.store import MachineStore, make_directory, read_file, write_file
from skep.runtime.errors import Corrupt, NotFound


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

    def save(self, name: str, cluster: MachineCluster) -> None:
        """Errors: `Invalid`."""
        make_directory(self._path)
        write_file(self._path / f"{check_name(name)}.json", msgspec.json.encode(cluster))

    def remove(self, name: str) -> None:
        (self._path / f"{check_name(name)}.json").unlink(missing_ok=True)
