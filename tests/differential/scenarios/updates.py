"""`docker service update, rollback, scale`: every flag that adds, removes or sets, and what becomes of tasks."""

from __future__ import annotations

from typing import Any

from tests.differential.scenario import Scenario, Until, Update, get, post, scenario, settle

CREATE = "service create -d --no-resolve-image --replicas 0 --name web"
RUN = "service create -d --no-resolve-image --stop-signal KILL --name web"
UPDATE = "service update -d --no-resolve-image"
TASKS = "service ps --format '{{.Name}} {{.Image}} {{.DesiredState}}' web"


def changes(name: str, before: str, *flags: str, command: str = "", **more: Any) -> Scenario:
    """A service made with some flags, then updated with others; its spec after each."""
    steps = [f"{CREATE} {before} $IMAGE {command}".rstrip()]
    for each in flags:
        steps += [f"{UPDATE} {each} web", "service inspect -f '{{json .Spec}}' web"]
    return scenario(f"update {name}", *steps, **more)


SCENARIOS = [
    changes(
        "the image and the command",
        "",
        "--image other:1",
        "--args 'sleep 2d'",
        "--entrypoint 'sh -c'",
        command="a",
    ),
    changes(
        "environment", "-e A=1", "--env-add A=3", "--env-add C=4 --env-rm A", "--env-rm B", "--env-rm NONE"
    ),
    changes(
        "labels",
        "-l a=1 --container-label c=1",
        "--label-add b=2 --container-label-add d=2",
        "--label-rm a --container-label-rm c",
        "--label-rm none",
    ),
    changes(
        "mounts",
        "--mount source=data,target=/data",
        "--mount-add type=tmpfs,target=/t",
        "--mount-add type=tmpfs,target=/data",
        "--mount-rm /t --mount-rm /none",
    ),
    changes(
        "ports",
        "-p published=8080,target=80,mode=host",
        "--publish-add published=8081,target=81,mode=host",
        "--publish-rm 80",
        "--publish-rm 99",
        "--publish-add published=8082,target=80,mode=host --publish-rm 81",
    ),
    changes(
        "placement",
        "--constraint node.role==manager --placement-pref spread=node.labels.a",
        "--constraint-add node.labels.x!=y --placement-pref-add spread=node.labels.b",
        "--constraint-rm node.role==manager --placement-pref-rm spread=node.labels.a",
        "--replicas-max-per-node 3",
    ),
    changes(
        "names",
        "--dns 10.9.8.7 --host one:10.1.1.1 --group 5",
        "--dns-add 10.9.8.6 --dns-search-add a.org --dns-option-add ndots:2 --host-add two:10.1.1.2 --group-add 6",
        "--dns-rm 10.9.8.7 --host-rm one:10.1.1.1 --group-rm 5",
        "--dns-search-rm a.org --dns-option-rm ndots:2 --hostname h --workdir /tmp --user 7",
    ),
    changes(
        "capabilities",
        "--cap-add NET_ADMIN --cap-drop CHOWN",
        "--cap-add SYS_TIME --cap-drop NET_ADMIN",
        "--cap-add CHOWN",
        "--cap-add ALL",
    ),
    changes(
        "kernel settings",
        "--sysctl net.a=1 --ulimit nofile=10:20",
        "--sysctl-add net.b=2 --ulimit-add nproc=5",
        "--sysctl-rm net.a --ulimit-rm nofile",
        "--init --read-only --tty",
        "--init=false --read-only=false",
    ),
    changes(
        "resources",
        "--limit-cpu 1 --reserve-memory 8m",
        "--limit-memory 32m --reserve-cpu 0.5 --limit-pids 10",
        "--limit-cpu 0 --reserve-memory 0",
    ),
    changes(
        "restarts and updates",
        "",
        "--restart-condition none --restart-delay 2s --restart-max-attempts 1 --restart-window 3s",
        "--update-delay 1s --update-order start-first --update-parallelism 3",
        "--rollback-order start-first --rollback-monitor 1s --rollback-failure-action continue",
        "--stop-grace-period 1s --stop-signal HUP",
    ),
    changes(
        "health checks",
        "--health-cmd true",
        "--health-interval 3s --health-retries 2",
        "--health-start-interval 1s",
        "--no-healthcheck",
        "--health-cmd false",
    ),
    changes(
        "generic resources",
        "--generic-resource gpu=2",
        "--generic-resource-add fpga=1",
        "--generic-resource-rm gpu",
        "--generic-resource-rm none",
    ),
    changes(
        "failures that are allowed",
        "",
        "--update-failure-action continue --update-max-failure-ratio 0.5 --update-monitor 1s",
        "--rollback-max-failure-ratio 0.25 --rollback-parallelism 2",
        "--health-cmd true --health-timeout 2s --health-start-period 3s",
        "--isolation default",
        "--credential-spec file://x",
        "--oom-score-adj 3",
        "--max-concurrent 2",
        "--quiet --label-add q=r",
    ),
    changes("the log driver", "", "--log-driver json-file --log-opt max-size=1m", "--log-driver none"),
    changes("the endpoint", "", "--endpoint-mode dnsrr", "--endpoint-mode vip"),
    changes("nothing", "", "", "--force", "--force"),
    scenario(
        "update shown prettily",
        f"{CREATE} -e A=1 $IMAGE",
        f"{UPDATE} --env-add A=2 web",
        "service inspect --pretty web",
        "service inspect -f '{{json .PreviousSpec}}' web",
        "service inspect web",
    ),
    scenario(
        "rollback of a spec",
        f"{CREATE} -e A=1 $IMAGE",
        "service rollback -d web",
        f"{UPDATE} -e A=2 web",
        f"{UPDATE} --env-add A=2 web",
        "service rollback -d web",
        "service inspect -f '{{json .Spec.TaskTemplate.ContainerSpec.Env}} {{json .PreviousSpec}}' web",
        "service rollback -d web",
        "service rollback -d nobody",
        f"{UPDATE} --rollback web",
        f"{UPDATE} --rollback --force web",
    ),
    scenario(
        "scale",
        f"{RUN} --replicas 1 $IMAGE sleep 1d",
        settle("web", running=1),
        "service scale -d web=3",
        settle("web", running=3),
        "service ls",
        TASKS,
        "service scale -d web=1",
        settle("web", running=1),
        "service ls",
        "service scale -d web=x",
        "service scale -d web",
        "service scale -d web=-1",
        "service scale -d web=0 nobody=1",
        settle("web", running=0),
        "service ls",
    ),
    scenario(
        "tasks after an update",
        f"{RUN} --replicas 2 --update-parallelism 0 --update-monitor 100ms $IMAGE sleep 1d",
        settle("web", running=2),
        f"{UPDATE} --env-add A=1 web",
        Until("/services/web", "UpdateStatus.State", "completed"),
        TASKS,
        "service ps --filter desired-state=running -q web",
        "service inspect --pretty web",
        get("/services/web", "UpdateStatus"),
        get('/tasks?filters={"service":["web"]}'),
    ),
    scenario(
        "changes that need no task",
        f"{RUN} --replicas 1 $IMAGE sleep 1d",
        settle("web", running=1),
        f"{UPDATE} --label-add a=b --update-delay 1s --rollback-delay 1s --replicas 1 web",
        TASKS,
        get("/services/web", "Spec.Labels"),
    ),
    scenario(
        "an update that fails pauses",
        f"{RUN} --replicas 2 --update-monitor 500ms --restart-condition none $IMAGE sleep 1d",
        settle("web", running=2),
        f"{UPDATE} --args false web",
        Until("/services/web", "UpdateStatus.State", "paused"),
        get("/services/web", "UpdateStatus.State"),
        "service inspect -f '{{.UpdateStatus.State}}' web",
        slow=True,
    ),
    scenario(
        "commands that wait for services",
        "service create -q --no-resolve-image --stop-signal KILL --name web --update-monitor 1s"
        " --rollback-monitor 100ms --restart-condition none $IMAGE sleep 1d",
        "service update -q --no-resolve-image --force web",
        "service update -q --no-resolve-image --args false web",
        "service rollback -q web",
        "service inspect -f '{{json .Spec.TaskTemplate.ContainerSpec.Args}} {{.UpdateStatus.State}}' web",
        slow=True,
    ),
    scenario(
        "an update that fails rolls back",
        f"{RUN} --replicas 2 --update-monitor 500ms --rollback-monitor 100ms --update-failure-action rollback"
        " --restart-condition none --rollback-parallelism 0 $IMAGE sleep 1d",
        settle("web", running=2),
        f"{UPDATE} --args false web",
        Until("/services/web", "UpdateStatus.State", "rollback_completed"),
        get("/services/web", "UpdateStatus.State", "UpdateStatus.Message"),
        "service inspect -f '{{json .Spec.TaskTemplate.ContainerSpec.Args}}' web",
        "service inspect --pretty web",
        slow=True,
    ),
    scenario(
        "a rollback by hand",
        f"{RUN} --replicas 1 --rollback-monitor 100ms --update-monitor 100ms $IMAGE sleep 1d",
        settle("web", running=1),
        f"{UPDATE} --env-add A=1 web",
        Until("/services/web", "UpdateStatus.State", "completed"),
        "service rollback -d web",
        Until("/services/web", "UpdateStatus.State", "rollback_completed"),
        get("/services/web", "UpdateStatus.State", "UpdateStatus.Message"),
        TASKS,
        "service inspect -f '{{json .Spec.TaskTemplate.ContainerSpec.Env}} {{json .PreviousSpec.Name}}' web",
    ),
    scenario(
        "update by the API",
        f"{CREATE} $IMAGE",
        Update("/services/web", {"Labels": {"a": "b"}}),
        Update("/services/web", {"Name": "other"}),
        Update("/services/web", {"Mode": {"Replicated": None, "Global": {}}}),
        Update("/services/web", {"Mode": {"Replicated": {"Replicas": None}}}),
        get("/services/web", "Spec.Mode", "PreviousSpec.Mode"),
        Update("/services/web", {"TaskTemplate": {"ContainerSpec": {"Image": ""}}}),
        Update("/services/web", {}, "rollback=previous"),
        Until("/services/web", "UpdateStatus.State", "rollback_completed"),
        get("/services/web", "Spec.Mode", "Spec.Labels", "UpdateStatus.State"),
        Update("/services/web", {}, "rollback=sideways"),
        Update("/services/web", {}, "registryAuthFrom=nothing"),
        Update("/services/web", {}, "rollback=previous&registryAuthFrom=nothing"),
        post("/services/web/update", {}),
        post("/services/web/update?version=x", {}),
        post("/services/web/update?version=1", {"Name": "web"}),
        post("/services/web/update?version=$VERSION{/services/web}", {"Name": "web"}),
        post(
            "/services/nobody/update?version=1",
            {"Name": "nobody", "TaskTemplate": {"ContainerSpec": {"Image": "x"}}},
        ),
    ),
]
