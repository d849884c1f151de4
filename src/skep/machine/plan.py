"""What is to be done to a host, by what it has: facts in, steps out. Pure.

`decide_preparation` first; where it installs something, facts are asked for again, since packages bring
files.
"""

from __future__ import annotations

import re

from msgspec import Struct

from skep.machine import daemon_json, unit
from skep.machine.facts import MachineFacts
from skep.machine.names import check_certified
from skep.machine.record import EngineWish
from skep.runtime.errors import Conflict, Invalid, Unsupported

RECOGNISED = {"debian": "Debian", "ubuntu": "Ubuntu"}
# Root runs what comes from there: nobody on the way may have another script come.
_URL = re.compile(r"https://[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~%/?=&+-]*)?")
FREE_KIB_MIN = 600 * 1024  # docker.io with what it brings has some 400 MB


class SetHostName(Struct, frozen=True, tag=True):
    """The host is called as the machine."""

    name: str


class InstallPackages(Struct, frozen=True, tag=True):
    """The host's own: the `packages` as they are, of the `optional` those that its release has. Services that
    they bring and start, and that are `kept_off`, are ended and not started at boot."""

    what: str
    packages: tuple[str, ...]
    optional: tuple[str, ...] = ()
    kept_off: tuple[str, ...] = ()

    def and_also(self, other: InstallPackages | None) -> InstallPackages:
        """Returns both, installed at once."""
        if other is None:
            return self
        return InstallPackages(
            f"{self.what} and {other.what}",
            self.packages + other.packages,
            self.optional + other.optional,
            self.kept_off + other.kept_off,
        )


class InstallByScript(Struct, frozen=True, tag=True):
    """By one of the user's choice, like Docker's own: root there runs what the URL gives."""

    url: str


class WriteFile(Struct, frozen=True, tag=True):
    """Whole or not at all. Without a mode, one that is there keeps its own."""

    path: str
    content: str
    mode: int | None = None


class RemoveFile(Struct, frozen=True, tag=True):
    """One that was not there before."""

    path: str


class StartEngine(Struct, frozen=True, tag=True):
    """Has it run, now and after a boot. `anew`: one that runs is stopped first, with its containers."""

    by_systemd: bool
    anew: bool


class SendLibraries(Struct, frozen=True, tag=True):
    """What skep needs, in a directory of its own."""

    name: str


class SendProgram(Struct, frozen=True, tag=True):
    """skep itself."""

    name: str


class StartSkepd(Struct, frozen=True, tag=True):
    """Has it run by what it is given now; what skepd was started by before the last time goes."""

    by_systemd: bool
    libraries: str
    program: str


Step = (
    SetHostName
    | InstallPackages
    | InstallByScript
    | WriteFile
    | RemoveFile
    | StartEngine
    | SendLibraries
    | SendProgram
    | StartSkepd
)


def check_wish(wish: EngineWish) -> None:
    """Looks whether an engine can be as it is wanted, wherever it runs. Errors: `Invalid`."""
    daemon_json.wanted_settings(wish, by_systemd=False)
    unit.check_environment(wish.environment)
    if wish.install_url and not _URL.fullmatch(wish.install_url):
        raise Invalid(f"--engine-install-url {wish.install_url}: it is like https://get.docker.com")
    for each in wish.tls_sans:
        check_certified(each)


def check_authority(facts: MachineFacts, own: tuple[bytes, ...]) -> None:
    """Looks whose machine a new one's host is. `own`: the CA of our machines, PEM, also those that it was and
    will be. Errors: `Conflict` where it is another's, who would be shut out."""
    if facts.ca is not None and not all(each in own for each in _certificates(facts.ca)):
        raise Conflict(
            f"the host's {daemon_json.CA} is not of your machines' CA: its engine is somebody else's machine,"
            " or yours from elsewhere. If nobody needs it any more, remove that file there"
        )


def _option_names(wish: EngineWish) -> list[str]:
    return [each.partition("=")[0].lstrip("-") for each in wish.options]


def _certificates(text: str) -> list[bytes]:
    """Returns the certificates of a file of them, or the text where there is none in it."""
    end = "-----END CERTIFICATE-----\n"
    parts = [part.encode() for part in text.replace(end, f"{end}\0").split("\0") if part.strip()]
    return parts or [text.encode()]


def provisioner_of(facts: MachineFacts) -> str:
    """Returns which of the distributions that are recognised it is. Errors: `Unsupported`, with the list."""
    for each in facts.release_ids:
        if each in RECOGNISED:
            return each
    raise Unsupported(
        f"{facts.release} is not recognised: {' and '.join(RECOGNISED.values())}, and what says in"
        " /etc/os-release that it is like them, are"
    )


def decide_preparation(
    facts: MachineFacts, name: str, more: InstallPackages | None = None, install_url: str = ""
) -> tuple[Step, ...]:
    """Returns what makes the host one that has an engine, by its own packages or the script of that URL, and
    `more`. Errors: `Unsupported`, `Conflict`."""
    steps: list[Step] = []
    if facts.host_name != name:
        steps.append(SetHostName(name))
    if not facts.dockerd:
        if not install_url:
            provisioner_of(facts)
            if not facts.has_apt:
                raise Conflict("the host has no apt-get, by which Docker could be installed")
        if facts.free_kib < FREE_KIB_MIN:
            raise Conflict(
                f"the host has {facts.free_kib // 1024} MiB free in /var/lib: Docker takes"
                f" {FREE_KIB_MIN // 1024}"
            )
        if install_url:
            steps.append(InstallByScript(install_url))
        else:
            # Since Debian 13 the client is a package of its own; it is what people look for on a host.
            docker = InstallPackages("Docker", ("docker.io", "iptables", "ca-certificates"), ("docker-cli",))
            more = docker.and_also(more)
    if more is not None:
        steps.append(more)
    return tuple(steps)


def decide_configuration(facts: MachineFacts, wish: EngineWish, *, skepd: bool = False) -> tuple[Step, ...]:
    """Returns what makes the host's engine listen by mutual TLS, where its certificates are by then; or with
    `skepd`, which listens in its place, at the host's own socket alone.

    Errors: `Conflict` where what the host has contradicts it, `Invalid`.
    """
    if not facts.has_systemd and not facts.has_init_script:
        raise Conflict(
            "the host has neither systemd nor /etc/init.d/docker, by which its engine could be started"
        )
    unit.check_default(facts.default_docker)
    files: list[WriteFile] = []
    by_systemd = False
    if facts.has_systemd:
        text = facts.unit or ""
        if not skepd:
            files.append(WriteFile(unit.DROP_IN, unit.drop_in(text, wish.environment, _option_names(wish))))
        elif wish.environment or unit.DROP_IN in text or unit.MACHINES_DROP_IN in text:
            content = unit.drop_in_behind_skepd(text, wish.environment, _option_names(wish))
            files.append(WriteFile(unit.DROP_IN, content))
        by_systemd = unit.is_by_systemd(text)
    elif (changed := unit.default_docker(facts.default_docker, wish.environment)) is not None:
        files.append(WriteFile(unit.DEFAULT_DOCKER, changed))
    if skepd:
        settings = daemon_json.behind_skepd(facts.daemon_json, wish)
    else:
        wanted = daemon_json.wanted_settings(wish, by_systemd=by_systemd)
        settings = daemon_json.merged(facts.daemon_json, wanted)
    if not skepd or settings != facts.daemon_json:
        files += [] if settings is None else [WriteFile(daemon_json.PATH, settings)]
    # Certificates are read at its start; behind skepd it has none, and its containers need not end.
    changes = [each for each in files if not skepd or not unit.has(facts.unit or "", each.path, each.content)]
    return (*changes, StartEngine(facts.has_systemd, anew=bool(changes)))


def decide_return(facts: MachineFacts, configuration: tuple[Step, ...]) -> tuple[Step, ...]:
    """Returns what has the engine run as before, where it does not by that configuration: nothing where none
    of its files was written. `facts`: as the configuration was decided by."""
    before = {
        daemon_json.PATH: facts.daemon_json,
        unit.DEFAULT_DOCKER: facts.default_docker,
        unit.DROP_IN: facts.drop_in,
    }
    written = [each.path for each in configuration if isinstance(each, WriteFile)]
    files: list[Step] = []
    for path in written:
        content = before[path]
        files.append(RemoveFile(path) if content is None else WriteFile(path, content))
    return (*files, StartEngine(facts.has_systemd, anew=True)) if files else ()
