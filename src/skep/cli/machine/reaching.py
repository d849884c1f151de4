"""`skep machine ssh`, `scp` and `mount`: machines' hosts, by OpenSSH's programs, and the key that was
pinned."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Sequence

import click

from skep.cli.machine.user import for_each, the_store, work_on_each
from skep.machine.drivers import Say
from skep.machine.names import expand_names
from skep.machine.openssh import (
    HostWay,
    known_hosts_line,
    options_first,
    rsync_words,
    scp_words,
    split_place,
    ssh_words,
)
from skep.machine.record import SshPlace
from skep.machine.store import MachineStore
from skep.runtime.errors import Invalid, Unavailable, Unsupported
from skep.runtime.texts import printable

COMMAND_S = 600.0  # on several machines at once: packages are installed by it
LINE_BYTES_MAX = 16 * 1024  # of what they print: one that is longer is no text


@click.command("ssh", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("name")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def ssh_command(name: str, command: tuple[str, ...]) -> None:
    """Logs in to the machine, or runs a command there, with OpenSSH's client and the host's key as it was
    seen first. Options of the client's come before the command: -L 8080:localhost:80.

    With a range of names the command runs on all of them at the same time.
    """
    names = expand_names((name,))
    if len(names) > 1:
        _run_on_each(names, " ".join(command))
        return
    options, words = options_first(command)
    arguments = ssh_words(_way(the_store(), names[0]), options, words)
    try:
        os.execvp("ssh", arguments)  # noqa: S606  # the terminal, its signals and its status are ssh's
    except FileNotFoundError as error:
        raise _missing("ssh") from error


def _run_on_each(names: tuple[str, ...], command: str) -> None:
    """Prints what a command says on each, with the machine's name. As with ssh, a shell there reads it."""
    if not command:
        raise Invalid("several machines are not logged in to at once: name one, or a command")
    if command.startswith("-"):
        raise Invalid(f"{command}: options of ssh are for one machine")
    from skep.machine.ssh import connected  # what one machine's takes no time to load

    store = the_store()

    async def one(name: str) -> str:
        machine = store.load(name)
        async with connected(machine.ssh, store.host_key(name)) as host:
            done = await host.run(command, timeout_s=COMMAND_S)
        for line in shown_lines(done.stdout + done.stderr):
            click.echo(f"({name}) {line}")
        if done.status != 0:
            raise Unavailable(f"it ended with status {done.status}")
        return ""

    for_each(names, one)


def shown_lines(said: bytes) -> list[str]:
    """Returns the lines of what a host printed, as they may be shown beside others': what a terminal takes
    for commands could write over those."""
    text = said.decode(errors="replace").removesuffix("\n")
    lines = text.split("\n") if text else []
    return [printable(line.rstrip("\r").expandtabs(), LINE_BYTES_MAX) for line in lines]


@click.command("scp")
@click.option("--recursive", "-r", is_flag=True, help="Directories, with all in them.")
@click.option("--delta", "-d", is_flag=True, help="What differs only, by rsync.")
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
@click.argument("source", metavar="[[USER@]MACHINE:]PATH")
@click.argument("target", metavar="[[USER@]MACHINE:]PATH")
def scp_command(recursive: bool, delta: bool, quiet: bool, source: str, target: str) -> None:
    """Copies files from, to and between machines. To a range of names it copies to all of them."""
    user, names, path = split_place(target)
    targets = expand_names((names,)) if names else ("",)
    store = the_store()
    from_user, from_name, from_path = split_place(source)
    if not names and not from_name:
        raise Invalid(f"neither {source} nor {target} is a machine's: MACHINE:PATH")
    origin = _way(store, from_name, from_user) if from_name else ""
    options = [*(["-r"] if recursive else []), *(["-q"] if quiet or len(targets) > 1 else [])]
    if delta and not quiet and len(targets) == 1:
        options.append("--progress")

    def words(name: str) -> list[str]:
        end = _way(store, name, user) if name else ""
        return (rsync_words if delta else scp_words)(origin, end, (from_path, path), options)

    if len(targets) == 1:
        arguments = words(targets[0])
        try:
            os.execvp(arguments[0], arguments)  # noqa: S606  # its progress, and its status
        except FileNotFoundError as error:
            raise _missing(arguments[0]) from error

    async def one(name: str, say: Say) -> None:
        say("Copying...")
        await _run(words(name))

    work_on_each(targets, one, lambda failed: f"Try again with those: {' '.join(failed)}")


@click.command("mount")
@click.argument("place", metavar="MACHINE:PATH")
@click.argument("directory", required=False)
@click.option("--unmount", "-u", is_flag=True)
def mount_command(place: str, directory: str | None, unmount: bool) -> None:
    """Is refused: docker-machine did it by sshfs, which nobody maintains any more."""
    _, name, path = split_place(place)
    raise Unsupported(
        f"directories of machines are not mounted here. To copy: skep machine scp -r {name}:{path} . (with -d"
        " what differs only); for containers a volume on the machine takes their place, or NFS"
    )


def _way(store: MachineStore, name: str, user: str = "") -> HostWay:
    """Returns how a machine is reached. Errors: `NotFound`, `Invalid` where nobody has been there."""
    place = store.load(name).ssh
    key = store.host_key(name)
    if key is None:
        raise Invalid(
            f'nobody has logged in to "{name}" yet, so its host key is not known: skep machine provision'
        )
    if user:
        place = SshPlace(address=place.address, user=user, port=place.port, key=place.key)
    return HostWay(place, store.write_known_hosts(name, known_hosts_line(place, key)), key)


async def _run(words: Sequence[str]) -> None:
    """Errors: `Unavailable`, with what the program said; `Invalid` where it is not installed."""
    try:
        process = await asyncio.create_subprocess_exec(
            *words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
    except FileNotFoundError as error:
        raise _missing(words[0]) from error
    _, said = await process.communicate()
    if process.returncode != 0:
        raise Unavailable(" / ".join(said.decode(errors="replace").split("\n")[-4:]).strip(" /"))


def _missing(program: str) -> Invalid:
    return Invalid(f"no {program} is installed here")
