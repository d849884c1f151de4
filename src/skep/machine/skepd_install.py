"""Has a host run skepd: sends it what it lacks, and starts it."""

from __future__ import annotations

import asyncio
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from skep.machine import bundle
from skep.machine.bundle import Bundle, LibrariesFor
from skep.machine.carrying import carry_out
from skep.machine.drivers import Say
from skep.machine.facts import MachineFacts
from skep.machine.plan import SendLibraries, SendProgram, StartSkepd, Step
from skep.machine.record import Machine
from skep.machine.remote import must
from skep.machine.skepd_plan import PLACE, decide_skepd
from skep.machine.ssh import SshHost

SEND_S = 600.0  # 40 MB over a slow line
START_S = 60.0  # skepd ends its etcd in good order before it starts again
SENDING_MAX = 8  # archives at a time: a line is not faster for more, and each host would come to its time-out

# Whole or not at all; another run may have been faster. On the disk before it has its name: a host that loses
# its power then would have files without content, and be taken for one that has all. What such hosts have
# left is a day old.
_UNPACK = """
umask 022
to={place}/{kind}
mkdir -p $to || exit
find $to -mindepth 1 -maxdepth 1 -name '.new.*' -mmin +1440 -exec rm -rf {{}} +
new=$(mktemp -d $to/.new.XXXXXX) || exit
trap 'rm -rf "$new"' EXIT
tar -xz --no-same-owner -C "$new" && chmod 755 "$new" || exit
sync -f "$new" 2>/dev/null || sync || exit
[ -d $to/{name} ] || mv -T "$new" $to/{name}
"""
_BY_SYSTEMD = """
systemctl daemon-reload && systemctl --quiet enable skepd.service && systemctl restart skepd.service || exit
"""
_BY_SCRIPT = """
update-rc.d skepd defaults >/dev/null 2>&1
/etc/init.d/skepd restart </dev/null || exit
"""
# Programs that the user has by these names are the user's. What is kept of before: the last one, in case, and
# what is started next, should another skep have been brought meanwhile.
_AFTER_START = """
for each in skep skepd; do
    [ -e {links}/$each ] || ln -sfn {place}/bin/$each {links}/$each
done
for each in libraries/{libraries} programs/{program}; do
    touch {place}/$each
    for old in $(ls -td {place}/${{each%%/*}}/*/ | tail -n +3); do
        grep -qsF "${{old%/}}'" {place}/bin/skep {place}/bin/skepd || rm -rf "$old"
    done
done
"""
# `docker` on the host is the swarm's: what people type there is to join this one, not the engine's own.
# Whoever has chosen a context stays with that. Not every sudo says whose HOME it is.
CONTEXT = """
home=$(getent passwd "$(id -u)" | cut -d : -f 6)
[ -z "$home" ] || export HOME="$home"
command -v docker >/dev/null || exit 0
docker context inspect skep >/dev/null 2>&1 ||
    docker context create skep --description "skepd of this host" --docker host=unix:///run/skep/skep.sock
current=$(docker context ls --format '{{if .Current}}{{.Name}}{{end}}' | tr -d '\n')
[ "$current" != default ] || docker context use skep
"""


class SkepdSource(NamedTuple):
    """Where hosts' libraries come from. `wheel_house`: a directory of wheels, None for the package index;
    `cache`: where they are kept; `turn`: who sends now."""

    wheel_house: Path | None
    cache: Path
    turn: asyncio.Semaphore

    @classmethod
    def usual(cls, wheel_house: Path | None) -> SkepdSource:
        return cls(wheel_house, bundle.cache_path(), asyncio.Semaphore(SENDING_MAX))


async def install_skepd(
    host: SshHost, facts: MachineFacts, machine: Machine, source: SkepdSource, say: Say
) -> None:
    """Has skepd run there as this one is. Errors: `Unavailable`, `Invalid`, `NotFound`."""
    libraries = await asyncio.to_thread(bundle.libraries_name, LibrariesFor.of(facts), source.wheel_house)
    program = await asyncio.to_thread(bundle.program)
    packaged = files("skep.machine")
    unit, script = ((packaged / f"skepd.{each}").read_text() for each in ("service", "init"))
    say("Installing skepd...")
    for step in decide_skepd(facts, machine.engine.port, libraries, program.name, unit, script):
        await _carry_out(host, step, facts, program, source, say)
    await must(host, CONTEXT, "docker's context cannot be made there")
    if not host.is_root:  # who logs in has one, too; where docker's group lets that user ask
        await host.run(CONTEXT)


async def _carry_out(
    host: SshHost, step: Step, facts: MachineFacts, program: Bundle, source: SkepdSource, say: Say
) -> None:
    if isinstance(step, SendLibraries):
        async with source.turn:
            found = await bundle.libraries(LibrariesFor.of(facts), source.wheel_house, source.cache, say)
            await _send(host, "libraries", found)
    elif isinstance(step, SendProgram):
        await _send(host, "programs", program)
    elif isinstance(step, StartSkepd):
        script = _BY_SYSTEMD if step.by_systemd else _BY_SCRIPT
        after = after_start_script(step.libraries, step.program)
        await must(host, script + after, "skepd does not start", timeout_s=START_S)
    else:
        await carry_out(host, step, say)


async def _send(host: SshHost, kind: str, found: Bundle) -> None:
    script = unpack_script(kind, found.name)
    await must(host, script, f"{found.name} cannot be unpacked", data=found.content, timeout_s=SEND_S)


def unpack_script(kind: str, name: str, *, place: str = PLACE) -> str:
    """Returns what makes its input, an archive, the directory of that name."""
    return _UNPACK.format(place=place, kind=kind, name=name)


def after_start_script(
    libraries: str, program: str, *, place: str = PLACE, links: str = "/usr/local/bin"
) -> str:
    """Returns what removes what skepd was started by before the last time."""
    return _AFTER_START.format(place=place, libraries=libraries, program=program, links=links)
