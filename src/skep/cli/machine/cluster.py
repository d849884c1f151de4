"""`skep cluster create`, `ls`, `rm` and `stats`: swarms made of machines."""

from __future__ import annotations

import asyncio
import shlex
from typing import Any

import click

from skep.cli.machine.joining import ATTEMPTS, advertise_option, expanded, members_of, show_results
from skep.cli.machine.maker import maker_of
from skep.cli.machine.user import for_each, the_store, work_on
from skep.cli.machine.wishes import WishCommand, wanted, wish_options
from skep.machine.cluster_plan import ClusterPlan, Made, decide, plan_lines
from skep.machine.clusters import ClusterRecords, MachineCluster
from skep.machine.drivers import Say
from skep.machine.join_plan import JoinResult, JoinRole, Outcome
from skep.machine.joining import Joining, first_manager
from skep.machine.names import compact
from skep.machine.store import MachineStore
from skep.machine.swarm import check_advertise
from skep.machine.swarm_stats import asked, stats_lines
from skep.runtime.errors import NotFound


@click.command("create", cls=WishCommand)
@click.argument("name")
@click.option("--managers", multiple=True, required=True, metavar="NAMES", help="Like mg[0:2].")
@click.option("--workers", multiple=True, metavar="NAMES", help="Like w[0:9].")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@advertise_option
@wish_options
def create_command(
    name: str,
    managers: tuple[str, ...],
    workers: tuple[str, ...],
    dry_run: bool,
    advertise: str,
    **said: Any,
) -> None:
    """Makes a swarm of machines, which are made where they are missing, all at the same time. Run again, it
    goes on where it was.

    skep cluster create demo --managers 'mg[0:2]' --workers 'w[0:9]' --driver local
    """
    store = the_store()
    cluster = MachineCluster(tuple(expanded(managers)), tuple(expanded(workers)))
    check_advertise(advertise, len(cluster.names))
    clusters = ClusterRecords(store)
    clusters.extended(name, cluster)
    plan = decide(cluster, {each: _made(store, each) for each in cluster.names})
    for line in plan_lines(plan, said["driver"]):
        click.echo(f"  {line}")
    if dry_run:
        return
    clusters.add(name, cluster)
    reasons = _make(plan, said)
    unmade = [
        JoinResult(
            each, JoinRole.MANAGER if each in cluster.managers else JoinRole.WORKER, Outcome.FAILED, reason
        )
        for each, reason in reasons.items()
    ]
    results = [] if set(cluster.managers) <= reasons.keys() else _join(store, cluster, reasons, advertise)
    show_results(results + unmade, lambda failed: "Once the reasons are gone, the same command goes on.")
    click.echo(f"The swarm {name} is there: docker --context {cluster.managers[0]} node ls")


def _made(store: MachineStore, name: str) -> Made:
    if not store.has(name):
        return Made.MISSING
    return Made.WHOLE if store.load(name).is_whole else Made.HALF


def _make(plan: ClusterPlan, said: dict[str, Any]) -> dict[str, str]:
    """Returns why machines could not be made."""
    machines = wanted(plan.create, said, skepd=True, among=plan.cluster.names) if plan.create else {}

    async def one(name: str, say: Say) -> None:
        maker = maker_of(say, said["wheel_house"])
        if name in machines:
            await maker.create(machines[name])
        else:
            await maker.provision(name)

    names = plan.create + plan.provision
    return work_on(names, one)[1] if names else {}


def _join(
    store: MachineStore, cluster: MachineCluster, without: dict[str, str], advertise: str
) -> list[JoinResult]:
    managers = [each for each in cluster.managers if each not in without]
    workers = [each for each in cluster.workers if each not in without]
    member = members_of(store, advertise)

    async def join() -> list[JoinResult]:
        first = await first_manager(member, managers, click.echo)
        joining = Joining(member, ATTEMPTS, lambda name, line: click.echo(f"({name}) {line}"))
        return await joining.join(first, managers, workers)

    return asyncio.run(join())


@click.command("ls")
def ls_command() -> None:
    """Lists the clusters that were made of machines."""
    clusters = ClusterRecords(the_store())
    for name in clusters.names():
        cluster = clusters.load(name)
        parts = [("managers", cluster.managers), ("workers", cluster.workers)]
        click.echo(
            f"{name}: " + ", ".join(f"{what} {' '.join(compact(names))}" for what, names in parts if names)
        )


@click.command("rm")
@click.argument("name")
@click.option("-y", "yes", is_flag=True, help="Do not ask.")
@click.option("--force", "-f", is_flag=True, help="Forget machines, whatever fails; do not ask.")
def rm_command(name: str, yes: bool, force: bool) -> None:
    """Removes a cluster with its machines: hosts that their driver has made end with all that is on them."""
    clusters = ClusterRecords(the_store())
    cluster = clusters.load(name)
    names = [each for each in cluster.names if the_store().has(each)]
    if not yes and not force:
        click.confirm(f"About to remove {' '.join(compact(names))}. Are you sure?", abort=True)

    async def one(each: str) -> None:
        left = await maker_of(lambda line: None).remove(each, force=force)
        click.echo(f"Successfully removed {each}{f': {left}' if left else ''}")

    if names:
        for_each(names, one)
    clusters.remove(name)


@click.command("stats")
@click.argument("name")
@click.argument("service", required=False)
def stats_command(name: str, service: str | None) -> None:
    """Prints a cluster in numbers: nodes, services, tasks. Of a SERVICE: how many of its tasks run."""
    store = the_store()
    cluster = ClusterRecords(store).load(name)
    managers = [store.load(each) for each in cluster.managers if store.has(each)]
    if not managers:
        raise NotFound(f"no manager of {name} is there: {shlex.join(cluster.managers)}")
    stats = asyncio.run(asked([(each, store.directory(each.name)) for each in managers]))
    for line in stats_lines(stats, service):
        click.echo(line)
