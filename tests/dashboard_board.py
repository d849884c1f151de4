"""A made-up swarm for tests of the dashboard's page: what its board and its API say. No orchestrator: orders are noted."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

STATES = [
    *("new", "pending", "assigned", "accepted", "preparing", "ready", "starting", "running"),
    *("complete", "shutdown", "failed", "rejected", "remove", "orphaned"),
]
CODE = {name: code for code, name in enumerate(STATES)}
AT = 1_790_000_000.0  # when all of it is
STAMP = "2026-09-21T12:53:20.000000000Z"
HOSTILE = "<img src=x onerror=alert(1)>\"'&lt;b>"
NAMES = ("web", "api", "worker", "cache", "metrics", "mail", "billing-frontend", "search")


def _id(kind: str, n: int) -> str:
    return f"{kind}{n:0{25 - len(kind)}d}"


class MadeSwarm:
    """Nodes, services, and per node (service, state, count)."""

    def __init__(self, nodes: int, tasks: int, services: int = len(NAMES), hostile: bool = False) -> None:
        rng = random.Random(nodes)
        self.seq = 7
        self.epoch = "epoch1"
        self.leader = _id("n", 0)
        self.nodes: list[Any] = [self._node(n, nodes) for n in range(nodes)]
        self.services: list[Any] = []
        self.specs: dict[str, dict[str, Any]] = {}
        self.says = HOSTILE  # in errors, as containers may
        for n in range(services):
            name = NAMES[n] if n < len(NAMES) else f"{NAMES[n % len(NAMES)]}-{n}"
            self._add_service(n, HOSTILE if hostile and n == 0 else name, 0, hostile)
        self.tasks: list[list[int]] = [[] for _ in range(nodes)]
        self._spread(rng, tasks)
        self.pending = [services - 1, 2] if services else []
        self.services[-1][3] += 2

    def _node(self, n: int, nodes: int) -> list[Any]:
        odd = nodes > 20
        state = 2 if n == nodes - 1 or (odd and n % 397 == 396) else 0 if odd and n % 601 == 600 else 1
        availability = 2 if n == nodes - 2 else 1 if odd and n % 290 == 289 else 0
        return [
            _id("n", n),
            f"node{n + 1}" if nodes < 20 else f"swarm2k-{n:04d}",
            int(n < 3),
            state,
            availability,
        ]

    def _add_service(self, n: int, name: str, desired: int, hostile: bool) -> None:
        update = {1: "updating", 4: "paused"}.get(n, "")
        image = f"registry.example/{NAMES[n % len(NAMES)]}:1.{n}"
        self.services.append([_id("s", n), name, "replicated", desired, image, update])
        labels = {"team": "shop", HOSTILE: HOSTILE} if hostile else {"team": "shop"}
        self.specs[_id("s", n)] = {
            "Name": name,
            "Labels": labels,
            "TaskTemplate": {
                "ContainerSpec": {
                    "Image": image,
                    "Args": [HOSTILE] if hostile else ["serve"],
                    "Env": ["MODE=x"],
                    "Secrets": [
                        {"SecretName": HOSTILE if hostile else "tls-key", "File": {"Name": "tls.key"}}
                    ],
                    "Configs": [{"ConfigName": "site", "File": {"Name": "/etc/site.conf"}}],
                },
                "Networks": [{"Target": "net1"}],
                "Placement": {"Constraints": ["node.role == worker"]},
                "Resources": {"Limits": {"MemoryBytes": 256 << 20}},
                "ForceUpdate": 0,
            },
            "Mode": {"Replicated": {"Replicas": desired}},
            "UpdateConfig": {"Parallelism": 2, "Delay": 5_000_000_000, "Order": "start-first"},
            "EndpointSpec": {"Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080 + n}]},
        }

    def _spread(self, rng: random.Random, tasks: int) -> None:
        able = [n for n, row in enumerate(self.nodes) if row[3] == 1 and row[4] == 0]
        weights = [1 / (n + 1) ** 0.5 for n in range(len(self.services))]
        found: Counter[tuple[int, int, int]] = Counter()
        for n in range(tasks):
            service = rng.choices(range(len(self.services)), weights)[0]
            state = "running"
            if rng.random() < (0.004 if tasks > 1000 else 0.08):
                state = rng.choice(("failed", "starting", "preparing", "starting"))
            found[(able[n % len(able)], service, CODE[state])] += 1
            self.services[service][3] += 1
        for (node, service, code), count in sorted(found.items()):
            self.tasks[node] += [service, code, count]
        for row in self.services:
            self.specs[row[0]]["Mode"]["Replicated"]["Replicas"] = row[3]

    # What the board says

    def snapshot(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "seq": self.seq,
            "at": AT,
            "swarm": {"id": "swarm1", "leader": self.leader, "version": "0"},
            "states": STATES,
            "nodes": self.nodes,
            "services": self.services,
            "tasks": self.tasks,
            "pending": self.pending,
            "history": self.history(),
        }

    def history(self) -> list[list[float]]:
        ready = sum(row[3] == 1 for row in self.nodes if row)
        wanted = sum(row[3] for row in self.services if row)
        rng = random.Random(1)
        rows = []
        for n in range(360):
            share = min(1.0, 0.55 + n / 300) if n < 135 else 1.0
            dip = 0.08 if 220 < n < 250 else 0.0
            now = round(wanted * (share - dip)) - 2
            noise = rng.choice((0, 0, 0, 1))
            rows.append(
                [AT - (360 - n) * 10, ready - int(dip > 0), max(0, now - noise), wanted, max(0, wanted - now)]
            )
        return rows

    def add(self, service: int, node: int, state: str, count: int) -> dict[str, Any]:
        """Has so many tasks more, and returns the change that says so."""
        self.tasks[node] = [*self.tasks[node], service, CODE[state], count]
        self.services[service][3] += count
        self.seq += 1
        return {
            "seq": self.seq,
            "at": AT,
            "nodes": [],
            "services": [[service, self.services[service]]],
            "tasks": [[node, self.tasks[node]]],
            "pending": self.pending,
            "leader": self.leader,
        }

    # What the API says

    def node_json(self, node_id: str) -> dict[str, Any] | None:
        for id_, name, role, state, availability in filter(None, self.nodes):
            if id_ == node_id:
                said: dict[str, Any] = {
                    "ID": id_,
                    "Version": {"Index": 11},
                    "Spec": {
                        "Role": ("worker", "manager")[role],
                        "Availability": ("active", "pause", "drain")[availability],
                        "Labels": {"zone": "a"},
                    },
                    "Description": {
                        "Hostname": name,
                        "Platform": {"Architecture": "x86_64", "OS": "linux"},
                        "Resources": {"NanoCPUs": 4_000_000_000, "MemoryBytes": 8 << 30},
                        "Engine": {"EngineVersion": "28.5.2", "Labels": {}},
                    },
                    "Status": {"State": ("unknown", "ready", "down")[state], "Addr": "10.0.0.1"},
                }
                if role:
                    said["ManagerStatus"] = {
                        "Leader": id_ == self.leader,
                        "Reachability": "reachable",
                        "Addr": "10.0.0.1:2377",
                    }
                return said
        return None

    def service_json(self, service_id: str) -> dict[str, Any] | None:
        for row in self.services:
            if row and row[0] == service_id:
                spec = self.specs[service_id]
                said = {"ID": row[0], "Version": {"Index": 21}, "CreatedAt": STAMP, "UpdatedAt": STAMP}
                said |= {"Spec": spec, "PreviousSpec": self._previous(spec)}
                said["Endpoint"] = {"VirtualIPs": [{"NetworkID": "net1", "Addr": "10.1.0.2/24"}]}
                if row[5]:
                    said["UpdateStatus"] = {
                        "State": row[5],
                        "Message": f"update {row[5]} due to failure of {self.says}",
                    }
                return said
        return None

    def _previous(self, spec: dict[str, Any]) -> dict[str, Any]:
        template = spec["TaskTemplate"]
        container = {**template["ContainerSpec"], "Image": "registry.example/old:0.9"}
        return {**spec, "TaskTemplate": {**template, "ContainerSpec": container}}

    def task_list(self, filters: dict[str, list[str]]) -> list[dict[str, Any]]:
        nodes, services = filters.get("node"), filters.get("service")
        said, slots = [], Counter[int]()
        for n, row in enumerate(self.nodes):
            flat = self.tasks[n]
            for service, code, count in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
                for _ in range(count):
                    slots[service] += 1
                    id_ = self.services[service][0]
                    if (nodes and row[0] not in nodes) or (services and id_ not in services):
                        continue
                    said += self._slot(row[0], id_, service, slots[service], STATES[code])
        for service, count in zip(self.pending[::2], self.pending[1::2], strict=True):
            id_ = self.services[service][0]
            if not nodes and (not services or id_ in services):
                said += [
                    self._task("", id_, service, 900 + n, "pending", "running", "no suitable node")
                    for n in range(count)
                ]
        return said

    def _slot(self, node: str, id_: str, service: int, slot: int, state: str) -> list[dict[str, Any]]:
        error = f"task: non-zero exit (137): {self.says}" + ", again" * 40 if state == "failed" else ""
        now = self._task(node, id_, service, slot, state, "running", error)
        if slot % 3:
            return [now]
        return [
            now,
            self._task(
                node, id_, service, slot, "failed", "shutdown", f"task: non-zero exit (1): {self.says}"
            ),
        ]

    def _task(
        self, node: str, id_: str, service: int, slot: int, state: str, desired: str, error: str
    ) -> dict[str, Any]:
        return {
            "ID": f"t{service}x{slot}{'b' if desired == 'shutdown' else 'a'}".ljust(25, "0"),
            "CreatedAt": STAMP if desired == "running" else "2026-09-21T11:00:00Z",
            "ServiceID": id_,
            "Slot": slot,
            "NodeID": node,
            "DesiredState": desired,
            "Status": {"State": state, "Timestamp": STAMP, "Message": "started", "Err": error},
            "Spec": self.specs[id_]["TaskTemplate"],
        }
