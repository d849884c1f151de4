"""How OpenSSH's client logs in to a machine: with the host's key that was pinned, and no other. Pure."""

from __future__ import annotations

from pathlib import PurePath

from skep.machine.record import SshPlace


def known_hosts_line(place: SshPlace, key: str) -> str:
    """Returns the host's line of a known_hosts file. `key`: as OpenSSH writes it, its comment is left out."""
    kind, encoded = key.split()[:2]
    host = place.address if place.port == 22 else f"[{place.address}]:{place.port}"
    return f"{host} {kind} {encoded}\n"


def ssh_words(place: SshPlace, known_hosts: PurePath, key: str, command: tuple[str, ...]) -> list[str]:
    """Returns the client's command line. The user's own configuration counts for all that is not said
    here."""
    words = ["ssh", "-o", "StrictHostKeyChecking=yes", "-o", f'UserKnownHostsFile="{known_hosts}"']
    words += ["-o", "GlobalKnownHostsFile=none"]
    words += ["-o", f"HostKeyAlgorithms={_algorithms(key)}", "-p", str(place.port)]
    if place.key:
        words += ["-i", place.key, "-o", "IdentitiesOnly=yes"]
    # Names are no options, whoever has written the config that they come from.
    return [*words, "-l", place.user, "--", place.address, *command]


def _algorithms(key: str) -> str:
    kind = key.split()[0]
    return "rsa-sha2-512,rsa-sha2-256" if kind == "ssh-rsa" else kind
