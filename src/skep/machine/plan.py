"""What is to be done to a host, by what it has: facts in, steps out. Pure.

`decide_preparation` first; where it installs something, facts are asked for again, since packages bring
files.
"""

from __future__ import annotations

from msgspec import Struct

from skep.machine import daemon_json, unit
from skep.machine.facts import MachineFacts
from skep.machine.names import check_certified
from skep.machine.record import EngineWish
from skep.runtime.errors import Conflict, Unsupported

RECOGNISED = {"debian": "Debian", "ubuntu": "Ubuntu"}
FREE_KIB_MIN = 600 * 1024  # docker.io with what it brings has some 400 MB


class SetHostName(Struct, frozen=True, tag=True):
    """The host is called as the machine."""

    name: str


class InstallEngine(Struct, frozen=True, tag=True):
    """By the host's own packages: the first as they are, of the `optional` those that its release has."""

    packages: tuple[str, ...]
    optional: tuple[str, ...]


class WriteFile(Struct, frozen=True, tag=True):
    """Whole or not at all."""

    path: str
    content: str


class RestartEngine(Struct, frozen=True, tag=True):
    """Stops it where it runs, starts it, and has it started at boot."""

    by_systemd: bool


Step = SetHostName | InstallEngine | WriteFile | RestartEngine


def check_wish(wish: EngineWish) -> None:
    """Looks whether an engine can be as it is wanted, wherever it runs. Errors: `Invalid`."""
    daemon_json.wanted_settings(wish, by_systemd=False)
    unit.check_environment(wish.environment)
    for each in wish.tls_sans:
        check_certified(each)


def check_authority(facts: MachineFacts, own: bytes | None) -> None:
    """Looks whose machine a new one's host is. `own`: the CA of our machines, PEM. Errors: `Conflict` where
    it is another's, who would be shut out."""
    if facts.ca is not None and facts.ca.encode() != own:
        raise Conflict(
            f"the host's {daemon_json.CA} is not of your machines' CA: its engine is somebody else's machine,"
            " or yours from elsewhere. If nobody needs it any more, remove that file there"
        )


def provisioner_of(facts: MachineFacts) -> str:
    """Returns which of the distributions that are recognised it is. Errors: `Unsupported`, with the list."""
    for each in facts.release_ids:
        if each in RECOGNISED:
            return each
    raise Unsupported(
        f"{facts.release} is not recognised: {' and '.join(RECOGNISED.values())}, and what says in"
        " /etc/os-release that it is like them, are"
    )


def decide_preparation(facts: MachineFacts, name: str) -> tuple[Step, ...]:
    """Returns what makes the host one that has an engine. Errors: `Unsupported`, `Conflict`."""
    steps: list[Step] = []
    if facts.host_name != name:
        steps.append(SetHostName(name))
    if not facts.dockerd:
        provisioner_of(facts)
        if not facts.has_apt:
            raise Conflict("the host has no apt-get, by which Docker could be installed")
        if facts.free_kib < FREE_KIB_MIN:
            raise Conflict(
                f"the host has {facts.free_kib // 1024} MiB free in /var/lib: Docker takes"
                f" {FREE_KIB_MIN // 1024}"
            )
        # Since Debian 13 the client is a package of its own; it is what people look for on a host.
        steps.append(InstallEngine(("docker.io", "iptables", "ca-certificates"), ("docker-cli",)))
    return tuple(steps)


def decide_configuration(facts: MachineFacts, wish: EngineWish) -> tuple[Step, ...]:
    """Returns what makes the host's engine listen by mutual TLS; its certificates are there by then.

    Errors: `Conflict` where what the host has contradicts it, `Invalid`.
    """
    if not facts.has_systemd and not facts.has_init_script:
        raise Conflict(
            "the host has neither systemd nor /etc/init.d/docker, by which its engine could be started"
        )
    unit.check_default(facts.default_docker)
    steps: list[Step] = []
    by_systemd = False
    if facts.has_systemd:
        text = facts.unit or ""
        steps.append(WriteFile(unit.DROP_IN, unit.drop_in(text, wish.environment)))
        by_systemd = unit.is_by_systemd(text)
    elif (changed := unit.default_docker(facts.default_docker, wish.environment)) is not None:
        steps.append(WriteFile(unit.DEFAULT_DOCKER, changed))
    wanted = daemon_json.wanted_settings(wish, by_systemd=by_systemd)
    steps.append(WriteFile(daemon_json.PATH, daemon_json.merged(facts.daemon_json, wanted)))
    steps.append(RestartEngine(facts.has_systemd))
    return tuple(steps)
