"""What commands that make or change machines have: the maker of the user's machines."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from skep.cli.machine.joining import members_of
from skep.cli.machine.user import organization, the_store
from skep.machine.in_turn import ManagersInTurn, clusters_of
from skep.machine.making import Maker
from skep.machine.skepd_install import SkepdSource

wheel_house_option = click.option(
    "--wheel-house",
    type=click.Path(path_type=Path),
    envvar="SKEP_WHEEL_HOUSE",
    help="A directory with the wheels of skep's libraries, for lack of the package index.",
)


def maker_of(say: Callable[[str], None], wheel_house: Path | None = None) -> Maker:
    """Returns what makes the user's machines."""
    return Maker(the_store(), organization(), time.time, say, _source(wheel_house))


def in_turn(names: Sequence[str]) -> ManagersInTurn:
    """Returns the turns of those of a command's machines that are managers of one cluster."""
    store = the_store()
    clusters = clusters_of(store, names, lambda line: click.echo(line, err=True))
    return ManagersInTurn(clusters, members_of(store))


@functools.cache
def _source(wheel_house: Path | None) -> SkepdSource:
    # One for all machines of a command, which take turns where they send much.
    return SkepdSource.usual(wheel_house)
