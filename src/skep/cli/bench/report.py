"""What is measured, and how it is shown."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from skep.runtime.errors import Unavailable


class Wanted(Struct, frozen=True):
    """What to measure."""

    nodes: int
    replicas: int
    lost: int
    etcd: str = "etcd"
    managers: int = 1
    kills_leader: bool = False
    overlay: bool = False
    publish: bool = False

    @property
    def has_network(self) -> bool:
        """True where nodes are told of the service's tasks."""
        return self.overlay or self.publish


class NetworkUse(Struct):
    """What nodes were told of the service's tasks until all ran and each knew its part of them, and how long
    after the loss of nodes was seen nobody led to them any more."""

    without_running_s: float = 0.0  # the same service on no network, before: `create_to_running_s`
    without_manager_cpu_s: float = 0.0  # … `create_manager_cpu_s`
    told_mb: float = 0.0
    told_node_max_kb: float = 0.0
    objects_node_max: int = 0  # of the kernel's, for tasks of other nodes, and for ways back to nodes
    all_know_s: float = 0.0  # from the creation
    lost_unknown_s: float = 0.0


class ManagerUse(Struct):
    """What one manager has used; `led` where it was the leader in the end or until it was killed."""

    name: str
    led: bool = False
    cpu_s: float = 0.0
    rss_mb: float = 0.0
    etcd_cpu_s: float = 0.0
    etcd_rss_mb: float = 0.0
    etcd_write_mb: float = 0.0


class Failover(Struct):
    """What became of a scale-up whose leader was killed; seconds count from the kill.

    `running_twice` and `lost` compare the slots with what the nodes themselves run; `started_again` are
    starts of containers beyond one per replica, `unknown` containers that the leader knows no task of.
    """

    running_at_kill: int = 0
    api_answers_s: float = 0.0
    all_running_s: float = 0.0
    running_twice: int = 0
    lost: int = 0
    unknown: int = 0
    started_again: int = 0
    joins_wanted: int = 0
    joins_done: int = 0
    join_median_s: float = 0.0
    join_max_s: float = 0.0
    manager_back_s: float = 0.0  # from its new start until it is reachable
    leader_cpu_s: float = 0.0  # of the new leader, from the kill until all run
    agents_cpu_s: float = 0.0


class Figures(Struct):
    """What was measured; the names are those of the JSON file. `manager_*` and `etcd_*` are the first
    leader's; `managers` has each one's, and `*_sum` is all of them."""

    join_per_s: float = 0.0
    create_to_running_s: float = 0.0
    list_tasks_s: float = 0.0
    list_tasks_mb: float = 0.0
    list_nodes_s: float = 0.0
    service_ls_s: float = 0.0
    standbys: int = 0  # standby connections of nodes to managers that do not lead, and how long until then
    standbys_s: float = 0.0
    idle_cores: float = 0.0
    idle_cores_sum: float = 0.0
    detect_s: float = 0.0
    replace_s: float = 0.0
    remove_s: float = 0.0
    manager_cpu_s: float = 0.0
    create_manager_cpu_s: float = 0.0
    manager_rss_mb: float = 0.0
    etcd_cpu_s: float = 0.0
    etcd_rss_mb: float = 0.0
    etcd_write_mb: float = 0.0
    managers_cpu_sum_s: float = 0.0
    managers_rss_sum_mb: float = 0.0
    etcd_cpu_sum_s: float = 0.0
    etcd_rss_sum_mb: float = 0.0
    agents_cpu_s: float = 0.0
    agents_rss_mb: float = 0.0
    loop_stall_max_s: float = 0.0
    managers: list[ManagerUse] = []
    failover: Failover | None = None
    network: NetworkUse | None = None
    stalls_s: dict[str, float] = {}
    curve: list[tuple[float, int]] = []


def show(figures: Figures, wanted: Wanted) -> None:
    """Prints the figures as a table."""
    managers = "" if wanted.managers == 1 else f", {wanted.managers} managers"
    table = Table(title=f"{wanted.replicas} replicas on {wanted.nodes} nodes{managers}")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in msgspec.structs.asdict(figures).items():
        if isinstance(value, int | float):
            table.add_row(name, f"{value:g}")
    if figures.failover is not None:
        for name, value in msgspec.structs.asdict(figures.failover).items():
            table.add_row(f"failover: {name}", f"{value:g}")
    if figures.network is not None:
        for name, value in msgspec.structs.asdict(figures.network).items():
            table.add_row(f"network: {name}", f"{value:g}")
    for text, stall in figures.stalls_s.items():
        table.add_row(f"longest stall: {text} (s)", f"{stall:g}")
    Console().print(table)


def show_services(figures: Struct, title: str) -> None:
    """Prints figures of `skep bench services` as a table."""
    table = Table(title=title)
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in _flat(figures):
        table.add_row(name, f"{value:g}")
    Console().print(table)


def _flat(figures: Struct, prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in msgspec.structs.asdict(figures).items():
        if isinstance(value, int | float):
            yield prefix + name, value
        elif isinstance(value, Struct):
            yield from _flat(value, f"{prefix}{name}: ")
        elif isinstance(value, dict):
            for key, inner in value.items():
                if isinstance(inner, Struct):
                    yield from _flat(inner, f"{prefix}{name}: {key}: ")
                else:
                    yield f"{prefix}{name}: {key}", inner


def as_json(figures: Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(figures)) + b"\n"


def check_can_plot() -> None:
    """Errors: `Unavailable` where matplotlib is missing: better before a run of minutes than after it."""
    try:
        importlib.import_module("matplotlib")
    except ImportError as error:
        raise Unavailable("--plot needs matplotlib: pip install 'skep[plot]'") from error


def plot(figures: Figures, wanted: Wanted, file: Path) -> None:
    """Draws running tasks over time. Errors: `ImportError`, see `check_can_plot`."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 4.5))
    axes.plot([t for t, _ in figures.curve], [n for _, n in figures.curve], linewidth=1.6)
    axes.set_xlabel("seconds since the manager was up")
    axes.set_ylabel("tasks observed running")
    axes.set_title(f"{wanted.replicas:,} replicas on {wanted.nodes:,} nodes")
    axes.grid(alpha=0.3)
    figure.savefig(file, dpi=130, bbox_inches="tight")
