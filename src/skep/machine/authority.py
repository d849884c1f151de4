"""The user's authority over machines and the client's certificate, made once, however many begin at the same
time."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import NamedTuple

from skep.machine import certs, renewal
from skep.machine.certs import Pair
from skep.machine.renewal import CA
from skep.machine.store import MachineStore, make_directory, read_file, write_file
from skep.runtime.errors import Conflict, Corrupt

_CLIENT = ("cert.pem", "key.pem")
_SERVER = ("server.pem", "server-key.pem")


class MachineTrust(NamedTuple):
    """Who signs the engines' certificates, what clients show, and whom both sides trust (PEM, one or more):
    of an authority that is being renewed, both."""

    ca: Pair
    client: Pair
    trusted: bytes


def authority(store: MachineStore, organization: str, now: float) -> MachineTrust:
    """Returns the authority and the client of all machines, which are made where they are missing.

    The client is made anew where it ends within a month. An authority that ends is not: its machines would be
    lost (`renewal`). Errors: `Corrupt` where one half of it is missing, or it has ended; `Invalid`.
    """
    with store.locked():
        make_directory(store.certs)
        renewal.finish_switch(store)
        new = _pair(renewal.directory(store), CA)
        if new is not None:
            return _while_renewed(store, new, organization, now)
        ca = _pair(store.certs, CA)
        if ca is None:
            ca = certs.new_ca(organization, now)
            _write_pair(store.certs, CA, ca)
        elif not certs.is_pair(ca):
            raise Corrupt(f"{store.certs / CA[1]} is not {CA[0]}'s key: restore it, or move both away")
        elif certs.expires_at(ca.certificate_pem) < now:
            raise Corrupt(
                f"the machines' CA ({store.certs / CA[0]}) has expired: make another, and all machines'"
                " certificates by it (skep machine regenerate-certs --ca)"
            )
        client = _pair(store.certs, _CLIENT)
        if client is None or not _is_good(client, ca, now):
            client = certs.new_client(ca, organization, now)
            _write_pair(store.certs, _CLIENT, client)
        return MachineTrust(ca, client, ca.certificate_pem)


def _while_renewed(store: MachineStore, new: Pair, organization: str, now: float) -> MachineTrust:
    """The new one signs, both are trusted. The client stays, for engines that trust the old one alone; where
    it has ended nothing is lost by another."""
    old = read_file(store.certs / CA[0])
    client = _pair(store.certs, _CLIENT)
    ends = min(map(certs.expires_at, (old, client.certificate_pem if client else old)))
    if client is None or ends < now or not certs.is_pair(client):
        client = certs.new_client(new, organization, now)
    return MachineTrust(new, client, new.certificate_pem + old)


def own_authorities(store: MachineStore) -> tuple[bytes, ...]:
    """Returns the certificates, PEM, of the authority as it is, as it will be and as it was last. Errors:
    `Invalid`."""
    found = []
    for path in (store.certs / CA[0], renewal.directory(store) / CA[0], store.certs / renewal.PREVIOUS):
        with contextlib.suppress(FileNotFoundError):
            found.append(read_file(path))
    return tuple(found)


def renew_client(store: MachineStore, organization: str, now: float) -> None:
    """Makes the client's certificate anew; until then there is the one before. Errors: as of `authority`;
    `Conflict` while the authority is renewed, which makes it anew itself."""
    if renewal.stage(store) is not None:
        raise Conflict("the authority is being renewed: skep machine regenerate-certs --ca")
    ca = authority(store, organization, now).ca
    with store.locked():
        _write_pair(store.certs, _CLIENT, certs.new_client(ca, organization, now))


def write_certificates(store: MachineStore, name: str, own: MachineTrust, server: Pair) -> None:
    """Gives the machine's directory what its engine shows, and what its clients show: it is what
    DOCKER_CERT_PATH is set to. Errors: `Invalid`."""
    directory = store.directory(name)
    write_file(directory / CA[0], own.trusted)
    _write_pair(directory, _CLIENT, own.client)
    _write_pair(directory, _SERVER, server)


def write_imported(store: MachineStore, name: str, trusted: bytes, client: Pair) -> None:
    """Gives the machine's directory what its client shows and trusts: of one of somebody else's. Errors:
    `Invalid`."""
    directory = store.directory(name)
    write_file(directory / CA[0], trusted)
    _write_pair(directory, _CLIENT, client)


def certificates_end(store: MachineStore, name: str) -> float | None:
    """Returns when the first of a machine's certificates ends, epoch seconds: its engine's or its client's;
    None where there are none, or none that can be read. Errors: `Invalid`."""
    ends = []
    for file in (_SERVER[0], _CLIENT[0]):
        with contextlib.suppress(FileNotFoundError, Corrupt):
            ends.append(certs.expires_at(read_file(store.directory(name) / file)))
    return min(ends, default=None)


def authority_ends(store: MachineStore) -> float | None:
    """Returns the same of the authority."""
    with contextlib.suppress(FileNotFoundError, Corrupt):
        return certs.expires_at(read_file(store.certs / CA[0]))
    return None


def _is_good(client: Pair, ca: Pair, now: float) -> bool:
    return (
        not certs.ends_soon(client.certificate_pem, now)
        and certs.is_of(client.certificate_pem, ca.certificate_pem)
        and certs.is_pair(client)  # who is killed between the two files leaves another's
    )


def _pair(directory: Path, names: tuple[str, str]) -> Pair | None:
    """Returns None where neither file is there. Errors: `Corrupt` where only one is: half of it is of no use,
    and whoever removed the other must know of it."""
    found = []
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            found.append(read_file(directory / name))
    if len(found) == 1:
        raise Corrupt(f"{directory} has only one of {names[0]} and {names[1]}: restore it, or move both away")
    return Pair(*found) if found else None


def _write_pair(directory: Path, names: tuple[str, str], pair: Pair) -> None:
    """Key first: a certificate without its key would be used."""
    write_file(directory / names[1], pair.key_pem)
    write_file(directory / names[0], pair.certificate_pem)
