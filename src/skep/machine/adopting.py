"""Machines of another directory of docker-machine's (or of skep's), as its user has brought it from
elsewhere."""

from __future__ import annotations

import contextlib
from pathlib import Path, PurePosixPath

from msgspec.structs import replace

from skep.machine.record import Machine
from skep.machine.store import HOST_KEY, MachineStore, make_directory, read_file, write_file
from skep.runtime.errors import NotFound

_OWN = ("ca.pem", "cert.pem", "key.pem", "server.pem", "server-key.pem", "id_rsa", "id_rsa.pub", HOST_KEY)
_CERTS = ("ca-key.pem", "ca.pem", "key.pem", "cert.pem")


def adopt_certificates(store: MachineStore, other: MachineStore) -> str:
    """Returns what its user is told of the authority: the other's becomes ours where we have none."""
    with store.locked():
        try:
            theirs = read_file(other.certs / "ca.pem")
        except FileNotFoundError:
            return f"{other.certs} has no CA: the machines' own certificates count until they are provisioned"
        with contextlib.suppress(FileNotFoundError):
            if read_file(store.certs / "ca.pem") == theirs:
                return ""
            return "You have a CA already: when machines are provisioned, they are given certificates of that"
        make_directory(store.certs)
        for file in _CERTS:
            with contextlib.suppress(FileNotFoundError):
                write_file(store.certs / file, read_file(other.certs / file))
        return "Their CA is yours now"


def adopt(store: MachineStore, other: MachineStore, name: str) -> Machine:
    """Copies a machine; returns it. A key of its own goes with it, whatever path of another home it had; one
    that is not there is left to your own keys. Errors: `NotFound`, `Corrupt`, `Conflict` where the name is
    taken."""
    machine = other.load(name)
    source, target = other.directory(name), store.directory(name)
    key = machine.ssh.key
    file = PurePosixPath(key.replace("\\", "/")).name
    if key and file in _OWN and (source / file).exists():
        key = str(target / file)
    elif key and not Path(key).exists():
        key = ""
    # Where a cloud's API is, and with it the user's token goes, no config of somebody else's says.
    details = {member: value for member, value in machine.details.items() if member != "APIURL"}
    machine = replace(machine, ssh=replace(machine.ssh, key=key), details=details)
    store.add(machine)
    for each in _OWN:
        with contextlib.suppress(FileNotFoundError):
            write_file(target / each, read_file(source / each))
    return machine


def machines_in(path: Path) -> MachineStore:
    """Returns the store of a directory: of docker-machine's, or a home that has one. Errors: `NotFound`."""
    for each in (path, path / ".docker/machine", path / "machine"):
        if (each / "machines").is_dir():
            return MachineStore(each.absolute())
    raise NotFound(f"{path} has no machines: it is docker-machine's directory, like ~/.docker/machine")
