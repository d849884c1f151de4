"""What `skep cluster upgrade-managers` is told of machines: whom to ask, and what is done to each of them."""

from __future__ import annotations

import shlex
import ssl
import sys
from pathlib import Path
from typing import NamedTuple

from skep.cli.machine.user import the_store
from skep.machine.client_tls import machine_context
from skep.machine.clusters import ClusterRecords
from skep.machine.swarm import check_skepd
from skep.runtime.errors import Invalid, NotFound


class ManagersApi(NamedTuple):
    """Where a cluster's managers are asked, and as whom."""

    urls: tuple[str, ...]
    tls: ssl.SSLContext


def managers_of(cluster: str) -> ManagersApi:
    """Returns the API of a cluster's machines that were made managers. Errors: `NotFound`, `Conflict`,
    `Unsupported`, `Invalid`."""
    store = the_store()
    names = [each for each in ClusterRecords(store).load(cluster).managers if store.has(each)]
    if not names:
        raise NotFound(f"no manager of the cluster {cluster} is a machine any more")
    urls = tuple(check_skepd(store.load(each)).url for each in names)
    directory = store.directory(names[0])
    return ManagersApi(urls, machine_context(directory))


def command_for(size: str, packages: bool, power_cycle: bool, *, skep: str = "") -> str:
    """Returns what is run for each manager, where it is of more than one part the next only if the one before
    went well. `skep`: this program. Errors: `Invalid`."""
    skep = shlex.quote(skep or str(Path(sys.argv[0]).absolute()))
    parts = []
    if packages:
        parts += [f"{skep} machine upgrade {{name}}", f"{skep} machine provision {{name}}"]
    if size:
        parts.append(f"{skep} machine resize --size {shlex.quote(size)} --power-cycle {{name}}")
    elif power_cycle:
        parts.append(f"{skep} machine restart {{name}}")
    if "{" in size or "{" in skep:
        raise Invalid(f"a brace in {size or skep}, which is filled in")
    return " && ".join(parts)
