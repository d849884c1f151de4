"""The user's authority over machines and the client's certificate, made once, however many begin at the same
time."""

from __future__ import annotations

import contextlib
from pathlib import Path

from skep.machine import certs
from skep.machine.certs import Pair
from skep.machine.store import MachineStore, make_directory, read_file, write_file
from skep.runtime.errors import Corrupt

_CA = ("ca.pem", "ca-key.pem")
_CLIENT = ("cert.pem", "key.pem")
_SERVER = ("server.pem", "server-key.pem")


def authority(store: MachineStore, organization: str, now: float) -> tuple[Pair, Pair]:
    """Returns the authority and the client of all machines, which are made where they are missing.

    The client is made anew where it ends within a month. An authority that ends is not: its machines would be
    lost. Errors: `Corrupt` where one half of it is missing, or it has ended; `Invalid`.
    """
    with store.locked():
        make_directory(store.certs)
        ca = _pair(store.certs, _CA)
        if ca is None:
            ca = certs.new_ca(organization, now)
            _write_pair(store.certs, _CA, ca)
        elif not certs.is_pair(ca):
            raise Corrupt(f"{store.certs / _CA[1]} is not {_CA[0]}'s key: restore it, or move both away")
        elif certs.expires_at(ca.certificate_pem) < now:
            raise Corrupt(
                f"the machines' CA ({store.certs / _CA[0]}) has expired: move {store.certs} away, then make"
                " the machines' certificates anew (skep machine regenerate-certs)"
            )
        client = _pair(store.certs, _CLIENT)
        if client is None or not _is_good(client, ca, now):
            client = certs.new_client(ca, organization, now)
            _write_pair(store.certs, _CLIENT, client)
        return ca, client


def own_ca(store: MachineStore) -> bytes | None:
    """Returns the authority's certificate, PEM; None where there is none yet. Errors: `Invalid`."""
    with contextlib.suppress(FileNotFoundError):
        return read_file(store.certs / _CA[0])
    return None


def renew_client(store: MachineStore, organization: str, now: float) -> None:
    """Makes the client's certificate anew; until then there is the one before. Errors: as of `authority`."""
    ca, _ = authority(store, organization, now)
    with store.locked():
        _write_pair(store.certs, _CLIENT, certs.new_client(ca, organization, now))


def write_certificates(store: MachineStore, name: str, ca: Pair, client: Pair, server: Pair) -> None:
    """Gives the machine's directory what its engine shows, and what its clients show: it is what
    DOCKER_CERT_PATH is set to. Errors: `Invalid`."""
    directory = store.directory(name)
    write_file(directory / _CA[0], ca.certificate_pem)
    _write_pair(directory, _CLIENT, client)
    _write_pair(directory, _SERVER, server)


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
