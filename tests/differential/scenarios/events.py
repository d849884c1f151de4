"""`docker events`: what happened to the swarm's objects, with Docker's attributes."""

from __future__ import annotations

from tests.differential.scenario import Events, Scenario, Step, Until, scenario, settle

CREATE = "service create -d --no-resolve-image --replicas 0 --name web"
UPDATE = "service update -d --no-resolve-image"


def events(name: str, kind: str, *steps: Step | str, **options: str) -> Scenario:
    """What was said of objects of one kind during the steps."""
    return scenario(f"events of {name}", *steps, Events(kind), **options)


SCENARIOS = [
    events(
        "services",
        "service",
        f"{CREATE} -l a=b $IMAGE",
        f"{UPDATE} --label-add c=d web",
        "service scale -d web=1 web=0",
        f"{UPDATE} --image other:1 web",
        "service rm web",
    ),
    events(
        "nodes",
        "node",
        "node update --label-add a=b $NODE",
        "node update --availability pause $NODE",
        "node update --availability active $NODE",
        "node update --label-rm a $NODE",
    ),
    events(
        "secrets",
        "secret",
        "secret create one $DIR/one",
        "secret rm one",
        files={"one": "x"},
    ),
    events(
        "configs",
        "config",
        "config create one $DIR/one",
        "config rm one",
        files={"one": "x"},
    ),
    events("networks", "network", "network create -d overlay one", "network rm one"),
    events(
        "updates",
        "service",
        "service create -d --no-resolve-image --stop-signal KILL --name web --update-monitor 100ms $IMAGE sleep 1d",
        settle("web", running=1),
        "service update -d --no-resolve-image --force web",
        Until("/services/web", "UpdateStatus.State", "completed"),
        "service rm web",
    ),
]
