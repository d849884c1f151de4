"""Grafana's boards: each panel's query, asked of a real InfluxDB and a real Prometheus, gives what the swarm's API gives.

With SKEP_BOARDS_NODES=2300 it is the swarm of Swarm2k.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from skep.monitor import grafana

from .databases import InfluxDatabase, Numbers, PrometheusDatabase
from .fixtures import starting
from .hosts import UnixConnection, free_port, wait_until
from .managers import Managers
from .skep_cli import SKEP, skep_ok

NODES = int(os.environ.get("SKEP_BOARDS_NODES", "40"))
REPLICAS = NODES * 43 if NODES >= 1000 else NODES * 5  # 100,000 on 2,300
STUCK = 7
CHANGE_S = 12.0  # a leader is found within 4 s
TWINS = 2  # nodes whose host names others have
UP_S = 60 + NODES / 10
JOBS = {"skep": "/metrics", "skep-nodes": "/metrics/nodes", "skep-services": "/metrics/services"}

pytestmark = pytest.mark.timeout(240 + NODES // 2)


class Watched:
    """A swarm of three managers and simulated nodes, and what watches it."""

    def __init__(self, directory: Path) -> None:
        self.swarm = Managers(directory, 3, 0)
        self.asked = self.swarm.first
        self.metrics = {host.name: f"127.0.0.1:{free_port()}" for host in self.swarm.managers}
        for host in self.swarm.managers:
            host.options = ("--metrics-addr", self.metrics[host.name])
        addresses = list(self.metrics.values())
        self.influx = InfluxDatabase(directory / "influx")
        self.prometheus = PrometheusDatabase(
            directory / "prometheus", {job: (path, addresses) for job, path in JOBS.items()}
        )
        self._simulations: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        self.influx.start()
        self.swarm.start()
        self.prometheus.start()
        docker = self.swarm.first.docker
        token = docker("swarm join-token -q worker")
        for count in (NODES - TWINS, TWINS):  # names are by number: the second ones have the first ones'
            command = [SKEP, "simulate", "--nodes", str(count), "--token", token]
            for address in self.swarm.addresses.values():
                command += ["--join", address]
            self._simulations.append(
                subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            )
        wait_until("all nodes are ready", lambda: self._ready() == NODES + 3, UP_S)
        docker("network create -d overlay inner")
        docker("secret create s -", data=b"s")
        docker("config create c -", data=b"c")
        docker("service create -q -d --name web --replicas {} image", REPLICAS)
        docker("service create -q -d --name everywhere --mode global image")
        docker("service create -q -d --name stuck --replicas {} --constraint node.labels.no==1 image", STUCK)
        wait_until("all run", lambda: self.running() == REPLICAS + NODES + 3, UP_S)

    def stop(self) -> None:
        for each in self._simulations:
            each.send_signal(signal.SIGINT)
        for each in self._simulations:
            each.wait(30)
        for part in (self.prometheus, self.influx, self.swarm):
            part.stop()

    def get(self, path: str) -> Any:
        connection = UnixConnection(self.asked.socket)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        assert answer.status == 200, (path, content)
        return json.loads(content)

    def _ready(self) -> int:
        return sum(node["Status"]["State"] == "ready" for node in self.get("/nodes"))

    def running(self) -> int:
        return sum(each["ServiceStatus"]["RunningTasks"] for each in self.get("/services?status=true"))

    def gather(self) -> None:
        """Has InfluxDB what Telegraf would be given now; Prometheus scrapes by itself."""
        self.influx.write(skep_ok("telegraf --once", on=self.asked).encode())
        self.prometheus.wait_scraped()


class Known:
    """What the API says of the swarm."""

    def __init__(self, watched: Watched) -> None:
        get = watched.get
        self.nodes = {node["ID"]: node for node in get("/nodes")}
        self.services = {each["Spec"]["Name"]: each for each in get("/services?status=true")}
        self.tasks = Counter(task["Status"]["State"] for task in get("/tasks"))
        listed = get("/networks?filters=%7B%22scope%22%3A%5B%22swarm%22%5D%7D")
        self.networks = len(listed) + 2  # the swarm has `bridge` and `host` of its nodes, too
        self.materials = {"secret": len(get("/secrets")), "config": len(get("/configs"))}
        self.usage = {node["ID"]: node for node in get("/skep/v1/nodes/usage?sample=0")["Nodes"]}
        self.node = min(id for id, node in self.nodes.items() if node["Spec"]["Role"] == "worker")
        self.metrics = watched.metrics

    @property
    def managers(self) -> dict[str, dict[str, Any]]:
        return {id: node for id, node in self.nodes.items() if "ManagerStatus" in node}

    @property
    def variables(self) -> dict[str, str]:
        return {"job": "skep", "service": self.services["stuck"]["ID"], "node": self.node}

    def total(self, status: str) -> int:
        return sum(each["ServiceStatus"][status] for each in self.services.values())

    def used(self, what: str, of: Any = None) -> list[float]:
        """Returns what nodes use, of those of which it is known."""
        nodes = self.usage if of is None else of
        return [self.usage[id]["Usage"][what] for id in nodes if self.usage[id]["Usage"] is not None]

    def has(self, what: str) -> int:
        return sum(node["Description"]["Resources"][what] for node in self.nodes.values())

    def by(self, of: Callable[[dict[str, Any]], str]) -> Numbers:
        return dict(Counter(map(of, self.nodes.values())))

    def called(self, source: str, id: str) -> str:
        """Returns how a manager's series is called."""
        return f"{self.nodes[id]['Description']['Hostname']} {id}" if source == "influx" else id

    def lacks(self) -> dict[str, int]:
        counts = {each["ID"]: each["ServiceStatus"] for each in self.services.values()}
        found = {id: each["DesiredTasks"] - each["RunningTasks"] for id, each in counts.items()}
        return {id: count for id, count in found.items() if count}


def _swarm2k(known: Known, source: str) -> dict[str, Numbers]:
    return {
        "Swarm Nodes": {"nodes": len(known.nodes)},
        "Swarm Running Tasks": {"tasks": known.tasks["running"]},
        "Tasks by Status": dict(known.tasks),
        "Masters CPU Avg.": {"cores of a manager": fmean(known.used("CPUCores", known.managers))},
        "CPU usage": {"in use": sum(known.used("CPUCores"))},
        "MEM usage": {"in use": sum(known.used("MemoryUsedBytes"))},
        "Masters MEM Avg.": {"of a manager": fmean(known.used("MemoryUsedBytes", known.managers))},
    }


def _swarm(known: Known, source: str) -> dict[str, Numbers]:
    same = _swarm2k(known, source)
    modes = Counter(next(iter(each["Spec"]["Mode"])).lower() for each in known.services.values())
    return {
        "Nodes ready": {"nodes": known.by(lambda node: node["Status"]["State"])["ready"]},
        "Nodes": same["Swarm Nodes"],
        "Services": {"services": len(known.services)},
        "Tasks running": {"tasks": known.total("RunningTasks")},
        "Tasks wanted": {"tasks": known.total("DesiredTasks")},
        "Tasks pending": {"tasks": STUCK},
        "Networks": {"networks": known.networks},
        "Tasks by Status": same["Tasks by Status"],
        "Nodes by state": known.by(lambda node: node["Status"]["State"]),
        "Nodes by availability": known.by(lambda node: node["Spec"]["Availability"]),
        "Services by mode": dict(modes),
        "CPU of all nodes": {**same["CPU usage"], "there are": known.has("NanoCPUs") / 1e9},
        "Memory of all nodes": {**same["MEM usage"], "there is": known.has("MemoryBytes")},
        "Secrets and configs": dict(known.materials),
        "Updates of services, by state": {},
    }


def _service(known: Known, source: str) -> dict[str, Numbers]:
    counts = {"wanted": STUCK, "running": 0, "pending": STUCK}
    return {**{f"Tasks {word}": {word: count} for word, count in counts.items()}, "Tasks": counts}


def _node(known: Known, source: str) -> dict[str, Numbers]:
    mine, use = known.nodes[known.node], known.usage[known.node]
    return {
        "Up": {"up": 1},
        "Tasks running": {"tasks": use["TasksRunning"]},
        "Cores": {"cores": mine["Description"]["Resources"]["NanoCPUs"] / 1e9},
        "Memory": {"bytes": mine["Description"]["Resources"]["MemoryBytes"]},
        "CPU in use": {"cores": use["Usage"]["CPUCores"]},
        "Memory in use": {"bytes": use["Usage"]["MemoryUsedBytes"]},
    }


def _managers(known: Known, source: str) -> dict[str, Numbers]:
    managers = known.managers
    leads = {id: float(node["ManagerStatus"].get("Leader", False)) for id, node in managers.items()}
    names = {id: known.metrics[node["Description"]["Hostname"]] for id, node in managers.items()}

    def each(what: str) -> Numbers:
        return {known.called(source, id): known.usage[id]["Usage"][what] for id in managers}

    return {
        "Leaders": {"leaders": 1},
        "Managers reachable": {"managers": 3},
        "Managers": {"managers": 3},
        "Who leads": {
            names[id] if source == "prometheus" else known.called(source, id): leads[id] for id in managers
        },
        "Managers by reachability": {"reachable": 3},
        "Nodes that have a session": {"nodes": len(known.nodes)},
        "CPU of managers' hosts": each("CPUCores"),
        "Memory of managers' hosts": each("MemoryUsedBytes"),
    }


WANTED = {"swarm2k": _swarm2k, "swarm": _swarm, "service": _service, "node": _node, "managers": _managers}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with starting(Watched(tmp_path_factory.mktemp("b"))) as made:
        made.gather()
        yield made


def panels(source: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields boards' names and their panels, as they are shipped."""
    for file, text in grafana.boards(source).items():
        for panel in json.loads(text)["panels"]:
            yield file.removesuffix(f"-{source}.json"), panel


def shown(watched: Watched, source: str, panel: dict[str, Any], variables: dict[str, str]) -> Numbers:
    found: Numbers = {}
    for target in panel["targets"]:
        if source == "influx":
            found |= watched.influx.last(target["query"], target["alias"], variables)
        else:
            found |= watched.prometheus.last(target["expr"], target["legendFormat"], variables)
    return found


def differences(found: Numbers, wanted: Numbers) -> dict[str, tuple[float | None, float | None]]:
    """What is wanted is there; what is there besides is 0, as states that nothing is in."""
    return {
        name: (found.get(name), wanted.get(name))
        for name in {*found, *wanted}
        if not math.isclose(found.get(name, math.nan), wanted.get(name, 0), rel_tol=1e-9)
    }


@pytest.mark.parametrize("source", grafana.SOURCES)
def test_every_panel_shows_what_the_api_says(watched: Watched, source: str) -> None:
    known = Known(watched)
    wanted = {board: of(known, source) for board, of in WANTED.items()}
    wrong = {}
    seen = set()
    for board, panel in panels(source):
        title = panel["title"]
        if title in ROWS or title in APART or title in BUSIEST:
            continue
        seen.add(title)
        found = shown(watched, source, panel, known.variables)
        if differs := differences(found, wanted[board][title]):
            wrong[board, title] = differs
    assert not wrong
    assert len(seen) > 20


# What the API does not say: within which bounds it is, and for how many series.
APART = {
    "Until a task has a node": (2, 0.0, 60.0),
    "Why tasks found no node": (None, 0.0, 1e6),
    "Writes to the store, 99 % within": (1, 0.0, 10.0),
    "CPU of skepd": (3, 0.0, 4.0),
    "Memory of skepd": (3, 5e7, 2e9),
    "The store's file": (4, 1e4, 1e10),
    "Until certificates end": (3, 80 * 86400.0, 90 * 86400.0),
}
BUSIEST = {
    "The ten busiest nodes, by cores in use": lambda node: node["Usage"]["CPUCores"],
    "The ten nodes with most tasks": lambda node: node["TasksRunning"],
}
ROWS = {"Nodes by id", "Services, with tasks wanted, running and pending", "Services that lack tasks"}


def test_what_the_api_does_not_say_is_there(watched: Watched) -> None:
    docker = watched.swarm.first.docker
    docker("service create -q -d --name late --replicas 5 image")
    variables = Known(watched).variables
    watched.prometheus.wait_scraped()  # a number and a later one make a rate
    watched.prometheus.wait_scraped()
    docker("service rm late")
    found = {
        panel["title"]: shown(watched, "prometheus", panel, variables)
        for _, panel in panels("prometheus")
        if panel["title"] in APART
    }
    assert set(found) == set(APART)
    for title, (count, least, most) in APART.items():
        numbers = list(found[title].values())
        assert numbers, title
        assert count in (None, len(numbers)), (title, found[title])
        assert all(least <= number <= most for number in numbers), (title, found[title])


def test_the_busiest_are_those_that_the_api_says(watched: Watched) -> None:
    known = Known(watched)
    for _, panel in panels("prometheus"):
        if of := BUSIEST.get(panel["title"]):
            found = shown(watched, "prometheus", panel, known.variables)
            assert found == pytest.approx({id: of(known.usage[id]) for id in found})
            assert sorted(found.values()) == pytest.approx(sorted(map(of, known.usage.values()))[-10:])


def test_rows_are_of_what_there_is(watched: Watched) -> None:
    watched.gather()
    known = Known(watched)
    names = {id: node["Description"]["Hostname"] for id, node in known.nodes.items()}
    assert len(set(names.values())) == len(names) - TWINS
    by_title = _targets()
    influx = {
        title: watched.influx.rows(of["influx"]["query"], known.variables) for title, of in by_title.items()
    }
    assert {each["tags"]["node_id"]: each["tags"]["node_hostname"] for each in influx["Nodes by id"]} == names
    counts = {
        each["tags"]["service_id"]: each["values"][-1][1:]
        for each in influx["Services, with tasks wanted, running and pending"]
    }
    assert counts == {each["ID"]: _counts(each) for each in known.services.values()}
    lacking = {
        each["tags"]["service_id"]: each["values"][-1][1] for each in influx["Services that lack tasks"]
    }
    assert lacking == known.lacks() == {known.services["stuck"]["ID"]: STUCK}

    ask = watched.prometheus.vector
    rows = ask(by_title["Nodes by id"]["prometheus"]["expr"], known.variables)
    assert {labels["node_id"]: labels["hostname"] for labels, _ in rows} == names
    rows = ask(by_title["Services that lack tasks"]["prometheus"]["expr"], known.variables)
    assert {labels["service_id"]: value for labels, value in rows} == lacking


def _targets() -> dict[str, dict[str, dict[str, Any]]]:
    """Returns what tables ask, by title and database."""
    found: dict[str, dict[str, dict[str, Any]]] = {title: {} for title in ROWS}
    for source in grafana.SOURCES:
        for _, panel in panels(source):
            if panel["title"] in ROWS:
                (found[panel["title"]][source],) = panel["targets"]
    return found


def _counts(service: dict[str, Any]) -> list[int]:
    status = service["ServiceStatus"]
    wanted, running = status["DesiredTasks"], status["RunningTasks"]
    return [wanted, running, wanted - running]


def test_what_may_be_chosen_is_what_there_is(watched: Watched) -> None:
    known = Known(watched)
    services = {each["ID"]: name for name, each in known.services.items()}
    names = {id: node["Description"]["Hostname"] for id, node in known.nodes.items()}
    for file, text in grafana.boards("prometheus").items():
        for choice in json.loads(text).get("templating", {}).get("list", []):
            found = _choices(watched, choice)
            wanted = {"job": {"skep": "skep"}, "service": services, "node": names}[choice["name"]]
            assert found == wanted, file
    for file, text in grafana.boards("influx").items():
        for choice in json.loads(text).get("templating", {}).get("list", []):
            (series,) = watched.influx.rows(choice["query"], {})
            chosen = {"service": services, "node": names}[choice["name"]]
            assert {value for _, value in series["values"]} == set(chosen), file


def _choices(watched: Watched, choice: dict[str, Any]) -> dict[str, str]:
    """Returns texts by value, as Grafana makes them: of a label's values, or of series as Prometheus writes them."""
    if match := re.fullmatch(r"label_values\((\w+), (\w+)\)", choice["query"]):
        values = watched.prometheus.get(f"/api/v1/label/{match[2]}/values", **{"match[]": match[1]})["data"]
        return {value: value for value in values}
    match = re.fullmatch(r"query_result\((.*)\)", choice["query"])
    assert match is not None
    found = {}
    for labels, _ in watched.prometheus.vector(match[1], {"job": "skep"}):
        text = "{" + ",".join(f'{name}="{value}"' for name, value in sorted(labels.items())) + "}"
        picked = re.search(choice["regex"].strip("/").replace("(?<", "(?P<"), text)
        assert picked is not None, text
        found[picked["value"]] = picked["text"]
    return found


def test_a_change_of_leader_doubles_nothing(watched: Watched) -> None:
    """The old one lives on: for a scrape both have said that they lead."""
    known = Known(watched)
    (leader,) = [id for id, node in known.managers.items() if node["ManagerStatus"].get("Leader")]
    queries = {
        (board, panel["title"]): panel
        for board, panel in panels("prometheus")
        if board.startswith("swarm")
        and panel["title"] in ("Swarm Nodes", "Swarm Running Tasks", "Nodes", "Services", "Tasks wanted")
    }
    most = {**_swarm(known, "prometheus"), **_swarm2k(known, "prometheus")}
    name = known.nodes[leader]["Description"]["Hostname"]
    watched.asked = next(host for host in watched.swarm.managers if host.name != name)
    watched.asked.docker("node demote", leader)
    until = time.monotonic() + CHANGE_S
    seen = 0
    while time.monotonic() < until:
        for (_, title), panel in queries.items():
            found = shown(watched, "prometheus", panel, known.variables)
            seen += bool(found)
            for name, number in found.items():
                assert number <= most[title][name], (title, found)
        time.sleep(0.25)
    assert seen > len(queries)
    left = Known(watched)
    assert leader not in left.managers
    watched.gather()
    for source in grafana.SOURCES:
        for _, panel in panels(source):
            if panel["title"] in ("Swarm Nodes", "Swarm Running Tasks", "Managers"):
                found = shown(watched, source, panel, known.variables)
                wanted = {**most[panel["title"]]} if panel["title"] != "Managers" else {"managers": 2}
                assert found == wanted, (source, panel["title"])
