"""Stacks: a compose file with every key that `docker stack deploy` takes, deployed, changed, pruned, removed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.images import IMAGE

from .hosts import Host, Swarm, containers, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]

STACK = "shop"
IDLE = "while true; do sleep 0.2; done"
# YAML reads JSON: the file is data here, and a test changes what it wants.
EVERYTHING: dict[str, Any] = {
    "x-note": "not read",
    "version": "3.9",  # the newest that the oldest client (20.10) knows
    "services": {
        "web": {
            "image": IMAGE,
            "entrypoint": ["sh", "-c"],
            "command": [IDLE],
            "hostname": "{{.Service.Name}}-{{.Task.Slot}}",
            "environment": {"PLAIN": "1", "FROM_SHELL": "${SHELL_VARIABLE:-default}"},
            "env_file": ["one.env"],
            "labels": {"of.container": "c"},
            "cap_add": ["NET_ADMIN"],
            "cap_drop": ["MKNOD"],
            "depends_on": ["worker"],
            "dns": ["10.9.9.9"],
            "dns_search": ["example.test"],
            "extra_hosts": ["other:10.1.2.3"],
            "healthcheck": {"test": ["CMD", "true"], "interval": "1s", "timeout": "2s", "start_period": "1s"},
            "init": True,
            "isolation": "default",
            "logging": {"driver": "json-file", "options": {"max-size": "1m"}},
            "networks": {"front": {"aliases": ["www"]}, "back": None},
            "ports": ["18080:80"],
            "read_only": True,
            "stdin_open": True,
            "stop_grace_period": "1s",
            "stop_signal": "SIGTERM",
            "sysctls": {"net.core.somaxconn": "512"},
            "tmpfs": ["/scratch"],
            "tty": True,
            "ulimits": {"nofile": {"soft": 1000, "hard": 2000}, "nproc": 500},
            "user": "0",
            "volumes": [
                "data:/data",
                {"type": "bind", "source": "/etc/hostname", "target": "/h", "read_only": True},
                {"type": "tmpfs", "target": "/t", "tmpfs": {"size": 1_000_000}},
            ],
            "working_dir": "/tmp",
            "secrets": [
                "key",
                {"source": "key", "target": "/own/key", "uid": "7", "gid": "8", "mode": 0o400},
            ],
            "configs": [{"source": "settings", "target": "/etc/settings", "mode": 0o444}],
            "deploy": {
                "mode": "replicated",
                "replicas": 2,
                "endpoint_mode": "vip",
                "labels": {"of.service": "s"},
                "update_config": {
                    "parallelism": 2,
                    "delay": "0s",
                    "failure_action": "rollback",
                    "monitor": "300ms",
                    "max_failure_ratio": 0.5,
                    "order": "stop-first",
                },
                "rollback_config": {"parallelism": 1, "monitor": "300ms"},
                "resources": {
                    "limits": {"cpus": "0.5", "memory": "64M", "pids": 100},
                    "reservations": {"cpus": "0.01", "memory": "8M"},
                },
                "restart_policy": {"condition": "any", "delay": "1s", "max_attempts": 5, "window": "10s"},
                "placement": {
                    "constraints": ["node.platform.os == linux"],
                    "preferences": [{"spread": "node.labels.zone"}],
                    "max_replicas_per_node": 5,
                },
            },
        },
        "worker": {
            "image": IMAGE,
            "command": "sleep 1d",
            "ports": [{"target": 81, "published": 18081, "protocol": "udp", "mode": "host"}],
            "networks": ["outside"],
            "stop_grace_period": "0s",
        },
        "everywhere": {
            "image": IMAGE,
            "command": "sleep 1d",
            "stop_grace_period": "0s",
            "deploy": {"mode": "global", "endpoint_mode": "dnsrr"},
        },
    },
    "networks": {
        "front": {"attachable": True, "labels": {"a": "b"}},
        "back": {
            "driver_opts": {"foo": "bar"},
            "internal": True,
            "ipam": {"config": [{"subnet": "10.77.0.0/24"}]},
        },
        "outside": {"external": True, "name": "stacks-outside"},
    },
    "volumes": {"data": {"labels": {"v": "w"}}},
    "secrets": {"key": {"file": "key.txt", "labels": {"kind": "key"}}},
    "configs": {"settings": {"file": "settings.txt", "template_driver": "golang"}},
}
# A job is one of a stack by its label: the client of Debian 12 (20.10) knows jobs, and none in a compose file.
JOB = [
    *("--mode", "replicated-job", "--replicas", "2", "--name", f"{STACK}_once"),
    *("--label", f"com.docker.stack.namespace={STACK}"),
]


class Stack:
    """The stack's file and the client that deploys it."""

    def __init__(self, host: Host, engine: str, directory: Path) -> None:
        self.host = host
        self.engine = engine
        self.directory = directory
        self.compose = json.loads(json.dumps(EVERYTHING))
        for name, text in {
            "one.env": "FROM_FILE=2\n",
            "key.txt": "k3y",
            "settings.txt": "at {{.Node.Hostname}}",
        }.items():
            (directory / name).write_text(text)

    @property
    def web(self) -> dict[str, Any]:
        found: dict[str, Any] = self.compose["services"]["web"]
        return found

    def deploy(self, *options: str, check: bool = True) -> str:
        """Begins when no update is under way: it would change a service's version while the client works."""
        wait_until("no update goes on", lambda: "updating" not in self.updates())
        file = self.directory / "stack.yml"
        file.write_text(json.dumps(self.compose))
        done = self.host.run("stack deploy -c {} --resolve-image never", file, *options, STACK, check=check)
        return done.stdout + done.stderr

    def updates(self) -> list[str]:
        """Returns the states of the stack's updates."""
        ids = self.host.docker("service ls -q --filter name={}_", STACK).split()
        found = self.host.json("service inspect", *ids) if ids else []
        return [(each.get("UpdateStatus") or {}).get("State", "") for each in found]

    def task_ids(self, *services: str) -> set[str]:
        """Returns the tasks that are to run."""
        rows = [r for s in services for r in self.host.tasks(f"{STACK}_{s}", "desired-state=running")]
        return {row["ID"] for row in rows}

    def rows(self, what: str) -> dict[str, str]:
        """Returns `docker stack services`, name -> replicas."""
        lines = self.host.docker("stack {} --format '{{.Name}} {{.Replicas}}' {}", what, STACK).splitlines()
        return dict(line.split(" ", 1) for line in lines)


@pytest.fixture(scope="module")
def outside(swarm: Swarm) -> Iterator[str]:
    """A network that no stack made."""
    swarm.manager.docker("network create -d overlay stacks-outside")
    yield "stacks-outside"
    swarm.manager.run("network rm stacks-outside", check=False)


@pytest.fixture(scope="module")
def stack(swarm: Swarm, outside: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Deployed, and all its tasks there."""
    made = Stack(swarm.manager, swarm.engine.removeprefix("unix://"), tmp_path_factory.mktemp("stack"))
    made.deploy()
    swarm.manager.docker("service create -d --no-resolve-image", *JOB, IMAGE, "true")
    wanted = {
        "web": "2/2 (max 5 per node)",
        "worker": "1/1",
        "everywhere": "3/3",
        "once": "0/2 (2/2 completed)",
    }
    wait_until(
        "the stack runs", lambda: made.rows("services") == {f"{STACK}_{k}": v for k, v in wanted.items()}
    )
    yield made
    swarm.manager.run("stack rm", STACK, check=False)


def inspected(stack: Stack) -> dict[str, Any]:
    """Returns a container of the web service."""
    task = stack.host.running(f"{STACK}_web")[0]
    (found,) = containers(stack.engine, f"com.docker.swarm.task.id={task['ID']}")
    (container,) = stack.host.json("inspect", found["ID"])
    result: dict[str, Any] = container
    return result


def test_every_key_arrives_at_the_container(stack: Stack) -> None:
    container = inspected(stack)
    config, host = container["Config"], container["HostConfig"]
    assert config["Hostname"] in (f"{STACK}_web-1", f"{STACK}_web-2")
    assert {"PLAIN=1", "FROM_SHELL=default", "FROM_FILE=2"} <= set(config["Env"])
    assert config["Labels"]["of.container"] == "c"
    assert config["Labels"]["com.docker.stack.namespace"] == STACK
    assert (config["Tty"], config["OpenStdin"], config["User"], config["WorkingDir"]) == (
        True,
        True,
        "0",
        "/tmp",
    )
    assert (config["StopSignal"], config["StopTimeout"]) == ("SIGTERM", 1)
    assert (host["ReadonlyRootfs"], host["Init"]) == (True, True)
    assert (host["NanoCpus"], host["Memory"], host["PidsLimit"]) == (500_000_000, 64 << 20, 100)
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "1m"}}
    assert [each["Name"] for each in host["Ulimits"]] == ["nofile", "nproc"]
    assert host["Sysctls"] == {"net.core.somaxconn": "512"}
    mounted = {mount["Destination"]: mount["Type"] for mount in container["Mounts"]}
    assert {"/data": "volume", "/h": "bind"}.items() <= mounted.items()
    assert {f"{STACK}_front", f"{STACK}_back"} <= {
        n["Name"] for n in stack.host.json("network inspect {}_front {}_back", STACK, STACK)
    }


def test_secrets_and_configs_are_in_the_container(stack: Stack) -> None:
    container = inspected(stack)["Id"]

    def said(*command: str) -> str:
        return stack.host.run("exec", container, *command).stdout.strip()

    assert said("cat", "/run/secrets/key") == "k3y"
    mode, _, owner, group = said("ls", "-ln", "/own/key").split()[:4]
    assert (mode, owner, group) == ("-r--------", "7", "8")
    assert said("cat", "/etc/settings").removeprefix("at ") in ("mg0", "w0", "w1")


def test_deploying_the_same_again_changes_no_task(stack: Stack) -> None:
    before = stack.task_ids("web", "worker", "everywhere")
    printed = stack.deploy()
    assert f"Updating service {STACK}_web" in printed
    assert stack.task_ids("web", "worker", "everywhere") == before


def test_only_what_changed_is_deployed_again(stack: Stack) -> None:
    others, web = stack.task_ids("worker", "everywhere"), stack.task_ids("web")
    stack.web["environment"]["PLAIN"] = "2"
    stack.web["deploy"]["labels"]["of.service"] = "t"
    stack.deploy()
    wait_until(
        "web is new", lambda: len(stack.host.running(f"{STACK}_web")) == 2 and not stack.task_ids("web") & web
    )
    assert stack.task_ids("worker", "everywhere") == others


def test_a_changed_config_is_refused_and_nothing_lost(stack: Stack) -> None:
    (stack.directory / "settings.txt").write_text("something else")
    printed = stack.deploy(check=False)
    assert "only updates to Labels are allowed" in printed
    (stack.directory / "settings.txt").write_text("at {{.Node.Hostname}}")
    stack.deploy()
    assert len(stack.host.running(f"{STACK}_web")) == 2


def test_lists_name_the_stack(stack: Stack) -> None:
    assert stack.host.docker("stack ls --format '{{.Name}} {{.Services}}'") == f"{STACK} 4"
    names = stack.host.docker("stack ps --format {{.Name}}", STACK).splitlines()
    assert {f"{STACK}_web.1", f"{STACK}_worker.1", f"{STACK}_once.1"} <= {
        name.strip(" \\_") for name in names
    }


def test_prune_removes_what_the_file_no_longer_names(stack: Stack) -> None:
    del stack.compose["services"]["everywhere"]
    printed = stack.deploy("--prune")
    assert f"Removing service {STACK}_once" in printed
    assert set(stack.rows("services")) == {f"{STACK}_web", f"{STACK}_worker"}


def test_removal_takes_everything_but_what_is_external(stack: Stack, outside: str) -> None:
    host = stack.host
    host.docker("stack rm", STACK)

    def again() -> bool:
        """Networks go when their last task has: until then the client may be told to come again."""
        done = host.run("stack rm", STACK, check=False)
        return "Nothing found in stack" in done.stdout + done.stderr

    wait_until("nothing of the stack is left", again)
    label = f"label=com.docker.stack.namespace={STACK}"
    for kind in ("network", "secret", "config", "service"):
        assert host.docker(kind, "ls", "-q", "--filter", label) == ""
    assert host.docker("network ls -q --filter name={}", outside)
