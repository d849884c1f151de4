"""What a container's spec says is so inside the container, and as Docker's client shows it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .fixtures import swarm_fixture
from .hosts import Swarm, UnixConnection, wait_until
from .skep_cli import skep_ok

pytestmark = [pytest.mark.engine, pytest.mark.timeout(120)]
SECOND_NS = 10**9


lone = swarm_fixture(lambda directory, engine: Swarm(directory, engine, workers=0), on_engine=True)


@pytest.fixture
def service(lone: Swarm, request: pytest.FixtureRequest) -> Iterator[str]:
    name = request.node.name.split("[")[0].replace("test_", "")[:50].strip("_").replace("_", "-")
    yield name
    lone.manager.run("service rm", name, check=False)


def create(lone: Swarm, name: str, container: dict[str, Any], **task: Any) -> str:
    """Makes a service through the API, of one task that is not restarted."""
    body = {
        "Name": name,
        "TaskTemplate": {"ContainerSpec": container, "RestartPolicy": {"Condition": "none"}, **task},
    }
    connection = UnixConnection(lone.manager.socket)
    connection.request("POST", "/services/create", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    found = json.loads(answer.read())
    assert answer.status == 201, found
    assert not found.get("Warnings"), found
    return str(found["ID"])


def ends(lone: Swarm, name: str) -> dict[str, str]:
    """Returns the first task once it has been rejected or has failed."""

    def ended() -> dict[str, str] | None:
        tasks = lone.manager.tasks(name)
        return tasks[-1] if tasks and tasks[-1]["CurrentState"].startswith(("Rej", "Fail")) else None

    found: dict[str, str] = wait_until("the task ends", ended)
    return found


class Running:
    """The only task of a service that runs."""

    def __init__(self, lone: Swarm, name: str) -> None:
        self._lone = lone
        (task,) = wait_until("it runs", lambda: lone.manager.running(name))
        self.id = f"{name}.1.{task['ID']}"
        self.inspected = lone.manager.json("inspect", self.id)[0]

    def sh(self, script: str) -> str:
        return self._lone.manager.docker("exec {} /bin/sh -c {}", self.id, script)


def test_every_field_is_so_inside(
    lone: Swarm, service: str, busybox_image: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    tmp_path.chmod(0o755)  # for a user of the container
    (tmp_path / "here").write_text("from the host")
    volume = f"skep-{tmp_path.name}-1".lower()
    request.addfinalizer(lambda: lone.manager.run("volume rm -f", volume, check=False))
    request.addfinalizer(lambda: lone.manager.run("service rm", service, check=False))
    container = {
        "Image": busybox_image,
        "Labels": {"mine": "yes"},
        "Command": ["/bin/sh", "-c", 'trap "exit 0" INT; while true; do sleep 0.1; done', "$0"],
        "Args": ["one"],
        "Hostname": '{{.Service.Name | printf "%.3s"}}-{{.Task.Slot}}',
        "Env": ["OS={{.Node.Platform.OS}}", "EMPTY=", "{{raw=1"],
        "Dir": "/tmp",
        "User": "1234:5678",
        "Groups": ["99"],
        "Privileges": {"NoNewPrivileges": True, "Seccomp": {"Mode": "unconfined"}},
        "TTY": True,
        "OpenStdin": True,
        "ReadOnly": True,
        "Init": True,
        "StopSignal": "SIGINT",
        "StopGracePeriod": 3 * SECOND_NS,
        "Mounts": [
            {"Type": "bind", "Source": str(tmp_path), "Target": "/bound", "ReadOnly": True},
            {
                "Type": "volume",
                "Source": volume.removesuffix("1") + "{{.Task.Slot}}",
                "Target": "/vol",
                "VolumeOptions": {"Labels": {"of": "{{.Service.Name}}"}, "NoCopy": True},
            },
            {"Type": "volume", "Target": "/anonymous"},
            {"Type": "tmpfs", "Target": "/small", "TmpfsOptions": {"SizeBytes": 1 << 20, "Mode": 0o700}},
        ],
        "Healthcheck": {"Test": ["CMD-SHELL", "test -e /proc"], "Interval": SECOND_NS // 5, "Retries": 1000},
        "Hosts": ["10.1.2.3 elsewhere also"],
        "DNSConfig": {"Nameservers": ["10.0.0.2"], "Search": ["example.org"], "Options": ["ndots:3"]},
        "Sysctls": {"net.ipv4.ip_unprivileged_port_start": "77"},
        "CapabilityDrop": ["CAP_CHOWN"],
        "Ulimits": [{"Name": "core", "Soft": 4096, "Hard": 8192}],
        "OomScoreAdj": 11,
    }
    resources = {
        "Limits": {"NanoCPUs": SECOND_NS // 2, "MemoryBytes": 64 << 20, "Pids": 50},
        "SwapBytes": 0,
    }
    create(lone, service, container, Resources=resources, LogDriver={"Name": "json-file"})
    task = Running(lone, service)
    # `core` and not `nofile`: runc's exec races with Go's runtime for that one (opencontainers/runc 4195).
    seen = task.sh(
        "hostname; pwd; id -u; id -g; id -G; echo $OS; ulimit -Sc; ulimit -Hc; cat /bound/here; echo;"
        " cat /proc/self/oom_score_adj; cat /proc/sys/net/ipv4/ip_unprivileged_port_start"
    ).splitlines()
    assert [line.strip() for line in seen] == [
        *("eve-1", "/tmp", "1234", "5678", "5678 99", "linux", "8", "16", "from the host", "11", "77"),
    ]
    assert {"elsewhere", "also"} <= set(task.sh("cat /etc/hosts").split())
    resolver = task.sh("cat /etc/resolv.conf")
    assert {"nameserver 10.0.0.2", "search example.org", "options ndots:3"} <= set(resolver.splitlines())
    mounts = {parts[1]: parts for line in task.sh("cat /proc/mounts").splitlines() if (parts := line.split())}
    assert mounts["/"][3].startswith("ro")
    assert mounts["/bound"][3].startswith("ro")
    assert (mounts["/small"][2], "size=1024k" in mounts["/small"][3]) == ("tmpfs", True)
    assert "/anonymous" in mounts
    status = task.sh("cat /proc/self/status")
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t0" in status
    assert "init" in task.sh("cat /proc/1/cmdline")

    found = task.inspected
    config, host = found["Config"], found["HostConfig"]
    assert (config["Tty"], config["OpenStdin"], config["StopSignal"]) == (True, True, "SIGINT")
    assert (config["Labels"]["mine"], config["StopTimeout"]) == ("yes", 3)
    assert "{{raw=1" in config["Env"]
    assert found["State"]["Health"]["Status"] == "healthy"
    assert (host["NanoCpus"], host["Memory"], host["PidsLimit"]) == (SECOND_NS // 2, 64 << 20, 50)
    assert host["MemorySwap"] == 64 << 20
    assert (host["CapDrop"], host["LogConfig"]["Type"]) == (["CAP_CHOWN"], "json-file")
    labels = lone.manager.json("volume inspect", volume)[0]["Labels"]
    assert labels == {"of": service}

    anonymous = next(m["Name"] for m in found["Mounts"] if m["Destination"] == "/anonymous")
    lone.manager.docker("service rm", service)
    wait_until("the container goes", lambda: lone.manager.run("inspect", task.id, check=False).returncode)
    gone = lone.manager.run("volume inspect", anonymous, check=False)
    assert "no such volume" in gone.stderr.lower()
    lone.manager.docker("volume inspect", volume)  # a named one stays


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"Isolation": "hyperv"}, "invalid isolation 'hyperv' on linux"),
        ({"Privileges": {"CredentialSpec": {"File": "x.json"}}}, "credentialspec=file://x.json"),
        ({"Mounts": [{"Type": "bind", "Source": "/no/such", "Target": "/x"}]}, "does not exist: /no/such"),
    ],
)
def test_what_this_engine_cannot_do_rejects_the_task(
    lone: Swarm, service: str, busybox_image: str, fields: dict[str, Any], words: str
) -> None:
    create(lone, service, {"Image": busybox_image, "Command": ["/bin/sleep", "1d"], **fields})
    task = ends(lone, service)
    assert task["CurrentState"].startswith("Rejected")
    assert words in task["Error"]


def test_a_part_of_a_volume_is_mounted_where_the_engine_knows_how(
    lone: Swarm, service: str, busybox_image: str
) -> None:
    """Engine 20.10 would mount the whole volume without a word."""
    known = tuple(map(int, lone.manager.docker("version -f {{.Server.APIVersion}}").split(".")))
    lone.manager.docker("volume create parts")
    filled = "mkdir /v/one && echo of one >/v/one/file"
    lone.manager.docker("run --rm -v parts:/v {} sh -c {}", busybox_image, filled)
    part = {"Type": "volume", "Source": "parts", "Target": "/x", "VolumeOptions": {"Subpath": "one"}}
    create(lone, service, {"Image": busybox_image, "Command": ["/bin/sleep", "1d"], "Mounts": [part]})
    try:
        if known < (1, 45):
            words = "VolumeOptions.Subpath needs Docker Engine 26.0"
            wait_until(
                "it is rejected", lambda: any(words in t["Error"] for t in lone.manager.tasks(service))
            )
        else:
            assert Running(lone, service).sh("cat /x/file") == "of one"
    finally:
        lone.manager.docker("service rm", service)
        wait_until(
            "the volume goes", lambda: lone.manager.run("volume rm parts", check=False).returncode == 0
        )


def without_check(lone: Swarm, name: str) -> dict[str, Any] | None:
    for row in lone.manager.running(name):
        found: dict[str, Any] = lone.manager.json("inspect {}.1.{}", name, row["ID"])[0]
        if found["Config"]["Healthcheck"]["Test"] == ["NONE"]:
            return found
    return None


def test_an_unhealthy_task_is_replaced_and_none_turns_the_check_off(
    lone: Swarm, service: str, busybox_image: str
) -> None:
    health = ["--health-cmd", "test ! -e /tmp/ill", "--health-interval", "200ms", "--health-retries", "2"]
    lone.manager.docker(
        "service create -d --name {} --restart-delay 0s --stop-grace-period 0s",
        service,
        *health,
        busybox_image,
        "sleep",
        "1d",
    )
    first = Running(lone, service)
    first.sh("touch /tmp/ill")
    wait_until(
        "another one runs",
        lambda: [row for row in lone.manager.running(service) if not first.id.endswith(row["ID"])],
    )
    failed = next(row for row in lone.manager.tasks(service) if first.id.endswith(row["ID"]))
    assert failed["Error"].strip('"').endswith("dockerexec: unhealthy container")
    lone.manager.docker("service update -d --no-healthcheck", service)
    without = wait_until("one without", lambda: without_check(lone, service))
    assert "Health" not in without["State"]


def test_the_swarms_log_driver_is_what_new_tasks_have(lone: Swarm, service: str, busybox_image: str) -> None:
    create(lone, service, {"Image": busybox_image, "Command": ["/bin/sleep", "1d"], "StopGracePeriod": 0})
    assert Running(lone, service).inspected["HostConfig"]["LogConfig"]["Type"] == "json-file"
    connection = UnixConnection(lone.manager.socket)
    connection.request("GET", "/swarm")
    swarm = json.loads(connection.getresponse().read())
    swarm["Spec"]["TaskDefaults"] = {"LogDriver": {"Name": "local", "Options": {"max-size": "1m"}}}
    version = swarm["Version"]["Index"]
    connection.request("POST", f"/swarm/update?version={version}", json.dumps(swarm["Spec"]))
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    answer.read()
    lone.manager.docker("service rm", service)
    create(lone, service, {"Image": busybox_image, "Command": ["/bin/sleep", "1d"], "StopGracePeriod": 0})
    assert Running(lone, service).inspected["HostConfig"]["LogConfig"] == {
        "Type": "local",
        "Config": {"max-size": "1m"},
    }


def test_a_bad_template_is_refused_at_once(lone: Swarm, busybox_image: str) -> None:
    done: subprocess.CompletedProcess[str] = lone.manager.run(
        "service create -d --env A={{.Bad}}", busybox_image, check=False
    )
    assert done.returncode == 1
    assert 'expanding env failed: expanding env "A={{.Bad}}": template: expansion:1' in done.stderr


def test_devices_and_privileges_only_where_the_swarm_gives_them(
    lone: Swarm, service: str, busybox_image: str
) -> None:
    create = ["service", "create", "-d", "--name", service, "--stop-grace-period", "0s"]
    what = [busybox_image, "sleep", "1d"]
    labels = ["--label", "skep.device=/dev/full:/dev/mine:rw,/dev/zero:r"]
    refused = lone.manager.run(*create, *labels, *what, check=False)
    assert "its setting allow-devices is off" in refused.stderr
    assert "`skep cluster set allow-devices=on`" in refused.stderr
    assert not lone.manager.docker("service ls -q --filter name={}", service)

    assert skep_ok("cluster settings", on=lone.manager).split() == [
        *("allow-devices=off", "allow-privileged=off", "allow-self-reported-constraints=on"),
        "data-path=nftables",
    ]
    assert "allow-devices=on" in skep_ok("cluster set allow-devices=on", on=lone.manager)
    lone.manager.docker(*create, *labels, *what)
    task = Running(lone, service)
    assert "No space left" in task.sh("echo x 2>&1 > /dev/mine || true")  # /dev/full's answer
    assert [(d["PathOnHost"], d["PathInContainer"]) for d in task.inspected["HostConfig"]["Devices"]] == [
        ("/dev/full", "/dev/mine"),
        ("/dev/zero", "/dev/zero"),
    ]
    update = ["service", "update", "-d", "--label-add", "skep.privileged=true", service]
    assert "allow-privileged is off" in lone.manager.run(*update, check=False).stderr
    skep_ok("cluster set allow-privileged=on", on=lone.manager)
    lone.manager.docker(*update)
    # Whether it then runs is the machine's to say: it needs every capability there is.
    wait_until("a privileged container is made", lambda: True in privileged(lone, service))
    skep_ok("cluster set allow-devices=off allow-privileged=off", on=lone.manager)
    assert "is off" in lone.manager.run("service scale -d {}=2", service, check=False).stderr
    lone.manager.docker("service update -d --label-rm skep.privileged --label-rm skep.device", service)
    wait_until("one without runs", lambda: lone.manager.running(service))
    host = Running(lone, service).inspected["HostConfig"]
    assert not host["Privileged"]
    assert not host["Devices"]


def privileged(lone: Swarm, name: str) -> list[bool]:
    """Returns whether the service's containers are, running or not."""
    ids = lone.manager.docker("ps -aq --filter label=com.docker.swarm.service.name={}", name).split()
    return [each["HostConfig"]["Privileged"] for each in lone.manager.json("inspect", *ids)] if ids else []


def test_a_sysctl_of_an_endpoint_is_set_where_the_engine_knows_how(
    lone: Swarm, service: str, busybox_image: str
) -> None:
    """Engine 20.10 would leave it unset without a word."""
    known = tuple(map(int, lone.manager.docker("version -f {{.Server.APIVersion}}").split(".")))
    lone.manager.docker("network create -d overlay own-sysctl")
    name = "com.docker.network.endpoint.sysctls"
    on = {"Target": "own-sysctl", "DriverOpts": {name: "net.ipv4.conf.IFNAME.log_martians=1"}}
    create(lone, service, {"Image": busybox_image, "Command": ["/bin/sleep", "1d"]}, Networks=[on])
    try:
        if known < (1, 46):
            task = ends(lone, service)
            assert task["CurrentState"].startswith("Rejected")
            assert f"the network own-sysctl: DriverOpts {name} needs Docker Engine 27.0" in task["Error"]
        else:
            seen = Running(lone, service).sh("cat /proc/sys/net/ipv4/conf/eth*/log_martians")
            assert "1" in seen.split()
    finally:
        lone.manager.docker("service rm", service)
        wait_until(
            "the network goes",
            lambda: lone.manager.run("network rm own-sysctl", check=False).returncode == 0,
        )
