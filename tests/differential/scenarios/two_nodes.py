"""A manager and a worker: where tasks run, what a worker is told, nodes that go and come back."""

from __future__ import annotations

from typing import Any

from tests.differential.scenario import (
    Call,
    Events,
    Power,
    Scenario,
    Settle,
    Until,
    at,
    get,
    scenario,
    settle,
)

CREATE = "service create -d --no-resolve-image --stop-signal KILL"
RUN = f"{CREATE} --name web"
IMAGE = "$IMAGE sleep 1d"
PS = "service ps web --format '{{.Node}} {{.DesiredState}} {{.Error}}'"  # which slot is where, is chance
LS = "node ls --format '{{.Hostname}} {{.Status}} {{.Availability}} {{.ManagerStatus}}'"


def two(name: str, *steps: Any, slow: bool = False) -> Scenario:
    return scenario(name, *steps, swarm="two", slow=slow)


def state_of(node: str, state: str) -> Until:
    return Until(f"/nodes/{node}", "Status.State", state)


SCENARIOS = [
    two(
        "two nodes",
        "node ls",
        LS,
        "node ls --filter role=worker -q",
        "node inspect $NODE2",
        "node inspect --pretty $NODE2",
        "node ps $NODE2",
        get("/info", "Swarm.Nodes", "Swarm.Managers", "Swarm.ControlAvailable"),
        Call("GET", "/info", only=("Swarm.ControlAvailable", "Swarm.LocalNodeState", "Swarm.Nodes"), at=2),
    ),
    two(
        "what a worker is refused",
        *at(
            2,
            *("node ls", "node inspect self", "service ls", "service ps web", "stack ls", "secret ls"),
            *("config ls", "swarm update --task-history-limit 3", "swarm join-token worker", "swarm ca"),
            *("swarm unlock-key", "node update --availability drain $NODE2", "network create -d overlay ov"),
            *("service create $IMAGE", "node rm $NODE", "service logs web"),
        ),
        *at(2, "swarm init", "swarm join --token x $FIRST", "info --format {{.Swarm.LocalNodeState}}"),
        *(Call("GET", path, at=2) for path in ("/nodes", "/services", "/tasks", "/swarm", "/secrets")),
        Call("POST", "/networks/create", {"Name": "ov", "Driver": "overlay"}, at=2),
    ),
    two(
        "tasks on two nodes",
        f"{RUN} --replicas 4 {IMAGE}",
        settle("web", running=4),
        "service ps web --format '{{.Node}}' --filter node=$NODE2",
        "node ps $NODE $NODE2 --filter name=web --format {{.Image}}",
        "node ps $NODE2 --filter name=web --format {{.Node}}",
        "service ls",
        "node update --availability drain $NODE2",
        Settle("web", {"running": 4, "shutdown": 2}),
        "service ps web --filter desired-state=running --format {{.Node}}",
        LS,
        "service ls",
        "node update --availability active $NODE2",
        "service scale -d web=8",
        settle("web", running=8),
        "service ps web --filter desired-state=running --filter node=$NODE2 --format {{.Node}}",
    ),
    two(
        "constraints on two nodes",
        f"{CREATE} --name w --replicas 2 --constraint node.role==worker {IMAGE}",
        f"{CREATE} --name m --replicas 2 --constraint node.role!=worker {IMAGE}",
        f"{CREATE} --name i --constraint node.id==$NODE2 {IMAGE}",
        "node update --label-add zone=b $NODE2",
        f"{CREATE} --name z --mode global --constraint node.labels.zone==b {IMAGE}",
        f"{CREATE} --name limited --replicas 3 --replicas-max-per-node 1 {IMAGE}",
        settle("w", running=2),
        settle("m", running=2),
        settle("i", running=1),
        settle("z", running=1),
        settle("limited", running=2, pending=1),
        *(
            f"service ps {name} --format '{{{{.Node}}}} {{{{.Error}}}}' --no-trunc"
            for name in ("w", "m", "i", "z")
        ),
        "service ps limited --no-trunc --format '{{.DesiredState}} {{.Error}}'",
        "service ls --format '{{.Name}} {{.Mode}} {{.Replicas}}'",
        "node update --label-rm zone $NODE2",
        settle("z"),
        "service ls --format '{{.Name}} {{.Replicas}}' --filter name=z",
    ),
    two(
        "a global service on two nodes",
        f"{RUN} --mode global {IMAGE}",
        settle("web", running=2),
        "service ps web --format '{{.Name}} {{.Node}}' --filter node=$NODE2",
        "node update --availability pause $NODE2",
        "service ls",
        "node update --availability drain $NODE2",
        settle("web", running=1, shutdown=1),
        f"{PS} --filter node=$NODE2",
        f"{PS} --filter desired-state=running",
        "service ls",
        "node update --availability active $NODE2",
        settle("web", running=2, shutdown=1),
        "service ls",
    ),
    two(
        "logs of two nodes",
        f"{RUN} --mode global --restart-condition none $IMAGE echo hello",
        settle("web", complete=2),
        "service logs --raw web",
        "service logs --no-task-ids web",
    ),
    two("removing a node that is up", "node rm $NODE2", "node rm $NODE", "node rm --force $NODE"),
    two(
        "a worker leaves",
        f"{RUN} --replicas 2 {IMAGE}",
        settle("web", running=2),
        *at(2, "swarm leave", "swarm leave", "info --format {{.Swarm.LocalNodeState}}"),
        state_of("$NODE2", "down"),
        LS,
        "node inspect -f {{.Status.State}} $NODE2",
        settle("web", running=3),
        f"{PS} --filter node=$NODE2",
        f"{PS} --filter desired-state=running",
        "node rm $NODE2",
        LS,
        f"{PS} --filter desired-state=running",
        Events("node"),
        slow=True,
    ),
    two(
        "a worker that is forced out",
        "node rm --force $NODE2",
        LS,
        "node inspect $NODE2",
        slow=True,
    ),
    two(
        "a worker dies and comes back",
        f"{RUN} --replicas 2 {IMAGE}",
        settle("web", running=2),
        Power(2, False),
        state_of("$NODE2", "down"),
        LS,
        "node inspect -f '{{.Status.State}}' $NODE2",
        settle("web", running=3),
        f"{PS} --filter node=$NODE2",
        f"{PS} --filter desired-state=running",
        "service ls",
        "node ps $NODE2 --filter name=web --format {{.DesiredState}}",
        Power(2, True),
        state_of("$NODE2", "ready"),
        LS,
        settle("web", running=2),
        f"{PS} --filter node=$NODE2",
        f"{PS} --filter desired-state=running",
        "service ls",
        Events("node"),
        slow=True,
    ),
    two(
        "a worker starts without its manager",
        *at(2, "info --format {{.Swarm.LocalNodeState}}"),
        Power(1, False),
        Power(2, False),
        Power(2, True),
        *at(2, "info --format '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}'", "node ls"),
        Power(1, True),
        state_of("$NODE2", "ready"),
        *at(2, "info --format '{{.Swarm.LocalNodeState}}{{.Swarm.Error}}'"),
        slow=True,
    ),
    two(
        "a worker becomes a manager and a worker again",
        "node promote $NODE2",
        "node promote $NODE2",
        Until("/nodes/$NODE2", "ManagerStatus.Reachability", "reachable"),
        LS,
        get("/info", "Swarm.Nodes", "Swarm.Managers"),
        "node rm $NODE2",
        "node rm --force $NODE2",
        *at(2, "swarm leave"),
        "node demote $NODE2",
        Until("/nodes/$NODE2", "ManagerStatus", None),
        LS,
        slow=True,
    ),
    two(
        "two managers",
        "node promote $NODE2",
        Until("/nodes/$NODE2", "ManagerStatus.Reachability", "reachable", at=2),
        *at(2, LS, "swarm leave", "service ls", "node demote $NODE2"),
        slow=True,
    ),
    two(
        "joining a swarm of two",
        *at(2, "swarm leave"),
        *at(
            2,
            "swarm join --token $WORKER --advertise-addr $SECOND $FIRST",
            "swarm join --token $WORKER --advertise-addr $SECOND $FIRST",
        ),
        state_of("$NODE2", "ready"),
        "node ls --filter name=$NODE2 -q",
        slow=True,
    ),
    two(
        "an update over two nodes",
        f"{RUN} --replicas 4 --update-parallelism 2 --update-monitor 1s {IMAGE}",
        settle("web", running=4),
        "service update -d --env-add A=b web",
        Until("/services/web", "UpdateStatus.State", "completed"),
        settle("web", running=4, shutdown=4),
        "service ps web --filter desired-state=shutdown --format {{.CurrentState}}",
        "service ls",
    ),
]
