"""`docker service create, inspect, ls, ps, rm`: what a service is and how it is shown."""

from __future__ import annotations

from typing import Any

from tests.differential.scenario import Scenario, get, post, scenario, settle

CREATE = "service create -d --no-resolve-image --replicas 0 --name web"
RUN = "service create -d --no-resolve-image --stop-signal KILL --name web"


def options(name: str, flags: str, command: str = "", **more: Any) -> Scenario:
    """A service made with these flags: its whole spec, and how the client shows it."""
    return scenario(
        f"create with {name}",
        f"{CREATE} {flags} $IMAGE {command}".rstrip(),
        "service inspect web",
        "service inspect --pretty web",
        get("/services/web"),
        **more,
    )


SCENARIOS = [
    options("no options", ""),
    options("a command", "", "sh -c 'echo $HOME; sleep 1d'"),
    options("an entrypoint", "--entrypoint 'sh -c' -w /tmp -u 1000:1000 --group 50 --group staff", "id"),
    options("environment", "-e A=1 -e B= -e C='x y' -e SKEP_UNSET"),
    options("labels", "-l a=b -l c -l d= --container-label e=f --container-label g"),
    options("names", "--hostname '{{.Task.Name}}.local' --host db:10.1.2.3 --host six:::1"),
    options("DNS", "--dns 10.9.8.7 --dns ::1 --dns-search example.org --dns-option ndots:3"),
    options(
        "resources",
        "--limit-cpu 1.5 --limit-memory 64m --reserve-cpu 0.25 --reserve-memory 16m --limit-pids 99",
    ),
    options("capabilities", "--cap-add NET_ADMIN --cap-add CAP_SYS_TIME --cap-drop chown --cap-drop MKNOD"),
    options(
        "limits of the kernel",
        "--sysctl net.core.somaxconn=99 --ulimit nofile=100:200 --ulimit nproc=50 --init",
    ),
    options(
        "mounts of volumes",
        "--mount source=data,target=/data --mount type=volume,target=/anonymous,ro"
        " --mount type=volume,source=v,target=/v,volume-driver=local,volume-opt=a=b,volume-label=c=d,volume-nocopy",
    ),
    options(
        "mounts of the host",
        "--mount type=bind,src=/tmp,dst=/host,readonly,bind-propagation=rslave"
        " --mount type=tmpfs,dst=/scratch,tmpfs-size=1m,tmpfs-mode=1770",
    ),
    options(
        "a health check",
        "--health-cmd 'test -e /tmp' --health-interval 2s --health-timeout 1s --health-retries 4"
        " --health-start-period 3s",
    ),
    options(
        "no health check", "--no-healthcheck --read-only --tty --stop-signal SIGINT --stop-grace-period 3s"
    ),
    options(
        "updates",
        "--update-parallelism 2 --update-delay 3s --update-monitor 4s --update-failure-action rollback"
        " --update-max-failure-ratio 0.25 --update-order start-first",
    ),
    options(
        "rollbacks",
        "--rollback-parallelism 0 --rollback-delay 3s --rollback-monitor 4s"
        " --rollback-failure-action continue --rollback-max-failure-ratio 0.5 --rollback-order start-first",
    ),
    options(
        "restarts",
        "--restart-condition on-failure --restart-delay 1s --restart-max-attempts 3 --restart-window 10s",
    ),
    options(
        "placement",
        "--constraint node.role==manager --constraint 'node.labels.disk!=slow'"
        " --placement-pref spread=node.labels.zone --placement-pref spread=engine.labels.rack"
        " --replicas-max-per-node 2",
    ),
    options("a log driver", "--log-driver json-file --log-opt max-size=1m --log-opt max-file=2"),
    options(
        "host ports", "-p published=8080,target=80,mode=host -p published=53,target=53,protocol=udp,mode=host"
    ),
    options("isolation", "--isolation default --oom-score-adj 5"),
    options("generic resources", "--generic-resource gpu=2 --generic-resource gpu=UUID1"),
    options("an env file", "--env-file $DIR/env -e B=2", files={"env": "A=1\nB=1\n# no\nSKEP_UNSET\n"}),
    options("credentials of Windows", "--credential-spec file://spec.json"),
    options("credentials in a registry", "--credential-spec registry://spec"),
    scenario(
        "create: generic resources that no node can give",
        *(
            step
            for name, resource in (
                ("named", {"NamedResourceSpec": {"Kind": "gpu", "Value": "g1"}}),
                ("negative", {"DiscreteResourceSpec": {"Kind": "gpu", "Value": -1}}),
            )
            for step in (
                post(
                    "/services/create",
                    {
                        "Name": name,
                        "TaskTemplate": {
                            "ContainerSpec": {"Image": "$IMAGE"},
                            "Resources": {"Reservations": {"GenericResources": [resource]}},
                        },
                    },
                ),
                settle(name, pending=1),
                f"service ps --no-trunc --format {{{{.Name}}}}:{{{{.Error}}}} {name}",
                get(f"/services/{name}", "Spec.TaskTemplate.Resources"),
            )
        ),
    ),
    scenario(
        "flags of newer engines",
        f"{CREATE} --oom-score-adj 5 $IMAGE",
        f"{CREATE} --health-cmd true --health-start-interval 1s $IMAGE",
        f"{CREATE} --mount type=volume,src=v,dst=/v,volume-subpath=s $IMAGE",
        f"{CREATE} --mount type=cluster,src=v,dst=/v $IMAGE",
        f"{CREATE} --mount type=npipe,src=v,dst=/v $IMAGE",
        f"{CREATE} --mount type=bind,src=/tmp,dst=/v,bind-recursive=disabled $IMAGE",
        f"{CREATE} --isolation sideways $IMAGE",
        f"{CREATE} --credential-spec nonsense $IMAGE",
        f"{CREATE} --credential-spec config://nobody $IMAGE",
        "service ls --format {{.Name}}",
        "service inspect -f '{{json .Spec.TaskTemplate.ContainerSpec}}' web",
    ),
    scenario(
        "a global service",
        "service create -d --no-resolve-image --name web --mode global --constraint node.labels.none==x $IMAGE",
        "service ls",
        "service inspect web",
        "service inspect --pretty web",
        "service scale web=2",
    ),
    scenario(
        "service ls",
        f"{CREATE} -l color=blue $IMAGE",
        "service create -d --no-resolve-image --name api --replicas 0 $IMAGE",
        "service create -d --no-resolve-image --name all --mode global --constraint node.labels.none==x $IMAGE",
        "service ls",
        "service ls -q",
        "service ls --format '{{.ID}} {{.Name}} {{.Mode}} {{.Replicas}} {{.Image}} {{.Ports}}'",
        "service ls --format json",
        "service ls --filter name=we",
        "service ls --filter name=e",
        "service ls --filter mode=global",
        "service ls --filter mode=replicated -q",
        "service ls --filter mode=x",
        "service ls --filter label=color",
        "service ls --filter label=color=blue",
        "service ls --filter label=color=red",
        "service ls --filter label=color=",
        "service ls --filter label=none=",
        "service ls --filter id=$ID{/services/web}",
        "service ls --filter color=red",
    ),
    scenario(
        "service ps",
        f"{RUN} --replicas 2 $IMAGE sleep 1d",
        settle("web", running=2),
        "service ls",
        "service ps web",
        "service ps -q web",
        "service ps --no-trunc web",
        "service ps --no-resolve web",
        "service ps --format '{{.ID}} {{.Name}} {{.Image}} {{.Node}} {{.DesiredState}} {{.CurrentState}}' web",
        "service ps --format json web",
        "service ps --filter name=web.1 web",
        "service ps --filter desired-state=running web",
        "service ps --filter desired-state=shutdown web",
        "service ps --filter desired-state=x web",
        "service ps --filter node=self web",
        "service ps --filter node=nobody web",
        "service ps --filter color=red web",
        "service ps web nobody",
        "service create -d --no-resolve-image --name two --replicas 0 $IMAGE",
        "service ps -q nobody web two",
        "service ps --format {{.Name}} two web",
        get('/tasks?filters={"service":["web"]}'),
        get("/services?status=true"),
    ),
    scenario(
        "service rm",
        f"{CREATE} $IMAGE",
        "service rm web nobody",
        "service rm nobody",
        "service ls -q",
        "service inspect web",
        "service inspect --pretty web",
        "service ps web",
        "service logs web",
        "service update web",
        "service rollback web",
        "service scale web=1",
    ),
    scenario(
        "a name that is taken",
        f"{CREATE} $IMAGE",
        f"{CREATE} $IMAGE",
        "service create -d --no-resolve-image --name WEB --replicas 0 $IMAGE",
        "service create -d --no-resolve-image --name -web --replicas 0 $IMAGE",
        "service create -d --no-resolve-image --name we.b --replicas 0 $IMAGE",
        f"service create -d --no-resolve-image --name {'w' * 64} --replicas 0 $IMAGE",
        "service ls --format {{.Name}}",
    ),
]
