"""`skep inventory` and `skep machine cloud-init`: for those who bring hosts into a swarm by other means."""

from __future__ import annotations

import asyncio
from importlib.resources import files

import click

from skep import __version__
from skep.cli.machine.user import the_store
from skep.machine.clusters import ClusterRecords
from skep.machine.inventory import ansible_lines, cloud_init_lines
from skep.machine.swarm import MachineMember, NodeMembership, Tokens, check_skepd
from skep.runtime.errors import Conflict


@click.command("inventory")
@click.argument("cluster", required=False)
@click.option("--ansible", is_flag=True, default=True, help="In Ansible's YAML, the only form.")
def inventory_command(cluster: str | None, ansible: bool) -> None:
    """Prints machines, all or those of a CLUSTER, for other tools: skep inventory --ansible > hosts.yaml"""
    store = the_store()
    if cluster is None:
        groups = {"machines": tuple(store.names())}
    else:
        found = ClusterRecords(store).load(cluster)
        groups = {"managers": found.managers, "workers": found.workers}
    machines = {
        group: [store.load(name) for name in names if store.has(name)] for group, names in groups.items()
    }
    for line in ansible_lines(machines):
        click.echo(line)


@click.command("cloud-init")
@click.option("--worker", is_flag=True, default=True, help="For hosts that become workers, the only kind.")
@click.option("--to", "first", required=True, metavar="NAME", help="A machine that is a manager.")
@click.option(
    "--skep",
    "requirement",
    default=f"skep=={__version__}",
    show_default=True,
    help="What pip installs on the hosts: a requirement, or a wheel's URL.",
)
def cloud_init_command(worker: bool, first: str, requirement: str) -> None:
    """Prints user data by which a cloud's hosts join the swarm of a machine at their first boot. It has the
    token by which workers join: keep it as a secret."""
    store = the_store()
    member = MachineMember(check_skepd(store.load(first)), store.directory(first))

    async def ask() -> tuple[NodeMembership, Tokens]:
        own = await member.membership()
        if not own.is_manager:
            raise Conflict(f"{first} is no manager of a swarm: docker --context {first} swarm init")
        return own, await member.tokens()

    own, tokens = asyncio.run(ask())
    unit = (files("skep.machine") / "skepd.service").read_text()
    for line in cloud_init_lines(unit, requirement, tokens.worker, own.managers):
        click.echo(line)
