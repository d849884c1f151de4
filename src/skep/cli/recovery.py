"""The commands that look after a running swarm, and bring one back: `skep cluster`, `skep backup`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from skep.cli import backup as backups
from skep.cli.lazy import LazyGroup
from skep.cli.settings import CHANGE_S, parse_settings, rotate_data_key, settings
from skep.cli.swarm_options import HostUrl
from skep.cli.unlock import ask_unlock_key, unlock_key_option
from skep.cli.upgrade import Upgrade
from skep.client.api import ApiClient, default_host
from skep.client.hosts import Hosts
from skep.store.backup import Header

T = TypeVar("T")

_managers = click.option(
    "--host",
    "-H",
    "hosts",
    type=HostUrl(),
    multiple=True,
    help="A manager's API: unix://PATH or tcp://HOST:PORT; may be given again."
    " [$DOCKER_HOST, or skepd's socket]",
)
_daemon = click.option(
    "--host", "-H", "host", type=HostUrl(), help="The daemon's API. [$DOCKER_HOST, or skepd's socket]"
)
_advertise = click.option("--advertise-addr", default="", help="Where others reach this node: IP[:PORT].")
_listen = click.option("--listen-addr", default="", help="Where this node listens: IP:PORT. [0.0.0.0:2377]")
_file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


_CLUSTERS = "skep.cli.machine.cluster"


@click.group(
    cls=LazyGroup,
    lazy={
        "create": f"{_CLUSTERS}:create_command",
        "ls": f"{_CLUSTERS}:ls_command",
        "rm": f"{_CLUSTERS}:rm_command",
        "stats": f"{_CLUSTERS}:stats_command",
    },
)
def cluster() -> None:
    """Makes swarms of machines, and looks after a running one."""


@click.group()
def backup() -> None:
    """Keeps a swarm in a file, and makes a swarm of it again."""


@cluster.command("upgrade-managers")
@click.option("--run", "command", default="", metavar="COMMAND", help="What upgrades one: 'ssh {name} …'.")
@click.option(
    "--cluster", "of_cluster", default="", metavar="NAME", help="Of machines: skep cluster create made it."
)
@click.option("--resize", default="", metavar="SIZE", help="Machines: another size, by a power cycle.")
@click.option("--packages", is_flag=True, help="Machines: the engine's packages, and this skep.")
@click.option("--power-cycle", is_flag=True, help="Machines: off and on again.")
@click.option(
    "--timeout", default=120.0, show_default=True, help="Seconds for a node to be Ready, Reachable."
)
@click.option("--dry-run", is_flag=True, help="Print the plan, do nothing.")
@_managers
def upgrade_managers(
    command: str,
    of_cluster: str,
    resize: str,
    packages: bool,
    power_cycle: bool,
    timeout: float,
    dry_run: bool,
    hosts: tuple[str, ...],
) -> None:
    """Upgrades all managers while the swarm runs, one after the other, the leader last.

    COMMAND is run by a shell, once for each manager, with {name}, {id} and {addr} filled in. It must install
    the new skep there and restart skepd, and must bear to be run again. What stops can be run again, from any
    machine: it goes on where it stopped.

    Where the managers are machines of a --cluster, --packages, --resize and --power-cycle say what is done
    instead.
    """
    of_machines = bool(resize or packages or power_cycle)
    if bool(command) == of_machines:
        raise click.UsageError("Say what upgrades a manager: --run, or --packages, --resize, --power-cycle.")
    if of_machines and not of_cluster:
        # Nodes are known by their names: those of another swarm may be called as machines of the user's.
        raise click.UsageError("Say whose managers your machines are: --cluster NAME.")
    urls, tls = hosts or (default_host(),), None
    if of_cluster:
        from skep.cli.machine.managers import command_for, managers_of  # what others do without

        if hosts:
            raise click.UsageError("--cluster says whom to ask: leave --host out.")
        command = command or command_for(resize, packages, power_cycle)
        urls, tls = managers_of(of_cluster)

    async def run() -> None:
        reached = Hosts(urls, tls=tls)
        try:
            # `echo` flushes: who reads it in a file or a pipe is not late.
            await Upgrade(reached, command, timeout, click.echo).run(dry_run)
        finally:
            await reached.close()

    _run(run())


@cluster.command("reconnect")
@click.argument("addresses", nargs=-1, metavar="[ADDRESS]...")
@_advertise
@_listen
@_daemon
def reconnect(addresses: tuple[str, ...], advertise_addr: str, listen_addr: str, host: str | None) -> None:
    """Tells this node at which ADDRESSES (HOST:PORT) managers are now, when none is where it was.

    On a manager, --advertise-addr says where it is now itself; other managers learn it from this one.
    """

    async def run() -> list[str]:
        client = ApiClient(host or default_host())
        body = {"RemoteAddrs": addresses, "AdvertiseAddr": advertise_addr, "ListenAddr": listen_addr}
        try:
            answer = await client.json("POST", "/skep/v1/reconnect", body)
        finally:
            await client.close()
        return list(answer["Warnings"])

    warnings = _run(run())
    for warning in warnings:
        click.echo(f"Warning: {warning}", err=True)
    if not warnings:
        click.echo("This node knows where managers are now.")


@cluster.command("settings")
@_daemon
def show_settings(host: str | None) -> None:
    """Prints what this swarm allows, and what leads its published ports on."""
    for line in _run(settings(host or default_host())):
        click.echo(line)


@cluster.command("set")
@click.argument("changes", nargs=-1, required=True, metavar="NAME=VALUE...")
@_daemon
def change_settings(changes: tuple[str, ...], host: str | None) -> None:
    """Changes what this swarm allows (on, off), and what leads its published ports on.

    \b
    allow-devices      services may have devices and GPUs of their nodes (labels skep.device, skep.gpus)
    allow-privileged   services may run privileged: root of their nodes (label skep.privileged)
    allow-self-reported-constraints
                       services may be placed by nodes' own words: host name, platform, engine labels
    data-path          what leads connections to published ports to tasks: nftables, or, on nodes whose
                       kernels have it, ipvs

    Running tasks keep what they have.
    """

    async def run() -> list[str]:
        return await settings(host or default_host(), parse_settings(changes))

    for line in _run(run()):
        click.echo(line)


@cluster.command("rotate-data-key")
@click.option("--detach", "-d", is_flag=True, help="Do not wait for the change.")
@_daemon
def rotate_data_key_command(host: str | None, detach: bool) -> None:
    """Changes the key that seals the managers' store, within seconds: copies of the present one open nothing
    that is written later. Waits for up to half a minute, and says what came of it: the change goes on by
    itself.

    It is changed without this when managers begin to lock themselves, when the unlock key is rotated, and
    when a manager is demoted or removed.
    """
    click.echo(_run(rotate_data_key(host or default_host(), 0.0 if detach else CHANGE_S)))


@backup.command("create")
@_file
@click.option("--force", is_flag=True, help="Replace FILE.")
@_managers
def create(file: Path, force: bool, hosts: tuple[str, ...]) -> None:
    """Writes a backup of the running swarm to FILE, as it is at one moment.

    FILE holds the swarm's keys: whoever has it can be a manager of this swarm. Where managers lock themselves
    (docker swarm update --autolock), that takes the unlock key as well.
    """
    with _progress("receiving") as progress:
        header = _run(backups.create(list(hosts) or [default_host()], file, force, progress))
    _describe(file, backups.described(header))


@backup.command("inspect")
@_file
def inspect(file: Path) -> None:
    """Says what is in FILE, after reading all of it and checking its checksum."""
    _describe(file, backups.described(_whole(file)))


@backup.command("restore")
@_file
@_advertise
@_listen
@unlock_key_option
@_daemon
def restore(file: Path, advertise_addr: str, listen_addr: str, unlock_key: str, host: str | None) -> None:
    """Makes the swarm in FILE again, with this node, which must be in no swarm, as its only manager."""
    if not unlock_key and _whole(file).is_locked:
        unlock_key = ask_unlock_key()
    with _progress("sending") as progress:
        url = host or default_host()
        node_id, left_out = _run(
            backups.restore(url, file, listen_addr, advertise_addr, unlock_key, progress)
        )
    for warning in left_out:
        click.echo(f"Warning: {warning}", err=True)
    click.echo(
        f"This node ({node_id}) is the swarm's only manager now.\n"
        "\n"
        "Workers that do not find it by themselves are told, on each of them; within five minutes, if what\n"
        "runs there is to stay where it is:\n"
        "\n"
        "    skep cluster reconnect ADDRESS-OF-THIS-NODE\n"
        "\n"
        "Former managers are listed as workers, Unknown, then Down: `docker node rm --force NODE` removes\n"
        "one. Where a machine of theirs lives, `docker swarm leave --force` there, and join again.\n"
        "New managers join with what `docker swarm join-token manager` prints."
    )


def _whole(file: Path) -> Header:
    return backups.inspect(file)


def _describe(file: Path, lines: list[str]) -> None:
    click.echo(f"file        {file}, {file.stat().st_size} bytes, whole")
    for line in lines:
        click.echo(line)
    click.echo(f"sha256      {backups.digest_of(file)}")


def _run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


@contextlib.contextmanager
def _progress(text: str) -> Iterator[Callable[[int], None]]:
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task(text, total=None)
        yield lambda size: shown.update(task, completed=size)
