"""How OpenSSH's client logs in to a machine: with the host's key that was pinned, and no other. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import PurePath
from typing import NamedTuple
from urllib.parse import quote

from skep.machine.names import bracketed
from skep.machine.record import SshPlace
from skep.runtime.errors import Invalid


def known_hosts_line(place: SshPlace, key: str) -> str:
    """Returns the host's line of a known_hosts file. `key`: as OpenSSH writes it, its comment is left out."""
    kind, encoded = key.split()[:2]
    host = place.address if place.port == 22 else f"[{place.address}]:{place.port}"
    return f"{host} {kind} {encoded}\n"


# A range in the machine's name has a colon of its own: w[1:50]:/etc/hosts
_PLACE = re.compile(r"(?:([^/:@\[\]]+)@)?((?:[^/:\[\]]|\[[^\]/]*\])+):(.*)", re.DOTALL)
_WITH_VALUE = "BbcDEeFIiJLlmOoPpQRSWw"  # of ssh(1)


class HostWay(NamedTuple):
    """How a machine's host is reached: its pinned key is in the file `known_hosts`, and is `key`."""

    place: SshPlace
    known_hosts: PurePath
    key: str


def ssh_words(way: HostWay, options: tuple[str, ...] = (), command: tuple[str, ...] = ()) -> list[str]:
    """Returns the client's command line. The user's own configuration counts for all that is not said
    here."""
    # Names are no options, whoever has written the config that they come from.
    words = ["ssh", *_trusting([way]), "-p", str(way.place.port), *options]
    return [*words, "-l", way.place.user, "--", way.place.address, *command]


def options_first(words: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the client's options that words begin with (`-L 8080:localhost:80`), and the command after
    them."""
    at = 0
    while at < len(words) and words[at].startswith("-") and words[at] != "-":
        if words[at] == "--":
            return tuple(words[:at]), tuple(words[at + 1 :])
        # Of letters in a row the first that takes a value takes the rest, or the next word.
        takes = next((place for place, letter in enumerate(words[at]) if letter in _WITH_VALUE), None)
        at += 2 if takes is not None and takes == len(words[at]) - 1 else 1
    return tuple(words[:at]), tuple(words[at:])


def split_place(text: str) -> tuple[str, str, str]:
    """Returns (user, machine, path) of `[[USER@]MACHINE:]PATH`: the first two are empty of a path here."""
    found = _PLACE.fullmatch(text)
    return (found[1] or "", found[2], found[3]) if found else ("", "", text)


def scp_words(
    source: str | HostWay, target: str | HostWay, paths: tuple[str, str], options: Sequence[str]
) -> list[str]:
    """Returns the command line that copies `paths`: of a machine's host, or files here, whose side is "".
    Between two hosts what is copied goes by here: they need not reach each other."""
    ways = [each for each in (source, target) if isinstance(each, HostWay)]
    places = [
        _url(side.place, path) if isinstance(side, HostWay) else _local(path)
        for side, path in zip((source, target), paths, strict=True)
    ]
    return ["scp", *_trusting(ways), *(["-3"] if len(ways) == 2 else []), *options, "--", *places]


def rsync_words(
    source: str | HostWay, target: str | HostWay, paths: tuple[str, str], options: Sequence[str]
) -> list[str]:
    """Returns the same by rsync, of what differs. Errors: `Invalid` between two hosts."""
    ways = [each for each in (source, target) if isinstance(each, HostWay)]
    if len(ways) != 1:
        raise Invalid("rsync (-d) copies from or to one machine, not between two: leave -d away")
    way = ways[0]
    shell = ["ssh", *_trusting(ways), "-p", str(way.place.port), "-l", way.place.user]
    places = [
        f"{bracketed(way.place.address)}:{path}" if isinstance(side, HostWay) else _local(path)
        for side, path in zip((source, target), paths, strict=True)
    ]
    return ["rsync", "-e", shlex.join(shell), *options, "--", *places]


def _trusting(ways: Sequence[HostWay]) -> list[str]:
    """Returns the options of who is trusted, and who we are."""
    files = " ".join(f'"{each.known_hosts}"' for each in ways)
    words = ["-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={files}"]
    words += ["-o", "GlobalKnownHostsFile=none"]
    kinds = {_algorithms(each.key) for each in ways}
    if len(kinds) == 1:  # of two the client has, for each host, that first which the file has
        words += ["-o", f"HostKeyAlgorithms={kinds.pop()}"]
    keys = list(dict.fromkeys(each.place.key for each in ways))
    for key in filter(None, keys):
        words += ["-i", key]
    return [*words, "-o", "IdentitiesOnly=yes"] if all(keys) and keys else words


def _url(place: SshPlace, path: str) -> str:
    """Returns a path on a host as scp takes it with a port: one from the root begins with two slashes."""
    return f"scp://{quote(place.user, safe='')}@{bracketed(place.address)}:{place.port}/{quote(path)}"


def _local(path: str) -> str:
    """Returns a path that is no host's, whatever is in it."""
    return path if path.startswith(("/", "./", "../")) else f"./{path}"


def _algorithms(key: str) -> str:
    kind = key.split()[0]
    return "rsa-sha2-512,rsa-sha2-256" if kind == "ssh-rsa" else kind
