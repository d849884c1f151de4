"""A task's spec as the engine gets it."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from skep.agent.executor.by_version import NEWEST, OLDEST
from skep.agent.executor.container_config import create_body
from skep.agent.executor.interfaces import TaskContext
from skep.manager.control.validate import validate_service
from skep.model.container import (
    AppArmorOpts,
    BindOptions,
    ContainerSpec,
    CredentialSpec,
    DNSConfig,
    HealthConfig,
    Limit,
    LogDriver,
    Mount,
    PortConfig,
    Privileges,
    Reservation,
    ResourceRequirements,
    SeccompOpts,
    SELinuxContext,
    TmpfsOptions,
    Ulimit,
    VolumeOptions,
)
from skep.model.spec import Platform, ServiceSpec, TaskSpec
from skep.model.states import RUNNING
from skep.rpc.messages import AssignedTask, ServiceTemplate, TaskNetwork
from skep.runtime.errors import Invalid

LINUX = Platform(architecture="x86_64", os="linux")


def body(
    spec: ContainerSpec | None = None,
    engine: tuple[int, int] = NEWEST,
    ports: list[PortConfig] | None = None,
    log_driver: LogDriver | None = None,
    networks: list[TaskNetwork] | None = None,
    **task: Any,
) -> dict[str, Any]:
    spec = spec or ContainerSpec(image="image")
    template = ServiceTemplate(
        "svc",
        1,
        "web",
        {},
        TaskSpec(container_spec=spec, **task),
        host_ports=ports or [],
        networks=networks or [],
    )
    context = TaskContext(AssignedTask("t1", "svc", 1, 2, RUNNING), template, "n1", "host-1", log_driver)
    return create_body(context, LINUX, engine)


def host(spec: ContainerSpec | None = None, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = body(spec, **more)["HostConfig"]
    return found


def with_mount(**fields: Any) -> ContainerSpec:
    return ContainerSpec(image="image", mounts=[Mount(**fields)])


def test_a_plain_container_is_as_dockers() -> None:
    assert body(ContainerSpec(image="image", command=["sleep"], args=["1"])) == {
        "Image": "image",
        "Labels": {
            "com.docker.swarm.node.id": "n1",
            "com.docker.swarm.service.id": "svc",
            "com.docker.swarm.service.name": "web",
            "com.docker.swarm.task": "",
            "com.docker.swarm.task.id": "t1",
            "com.docker.swarm.task.name": "web.2.t1",
        },
        "Tty": False,
        "OpenStdin": False,
        "Env": [],
        "Entrypoint": ["sleep"],
        "Cmd": ["1"],
        "HostConfig": {
            "ReadonlyRootfs": False,
            "Mounts": [],
            "Isolation": "default",
            "Ulimits": [],
            "PortBindings": {},
        },
    }


def test_what_is_the_containers_own() -> None:
    spec = ContainerSpec(
        image="image",
        hostname="{{.Service.Name}}-{{.Task.Slot}}",
        dir="/tmp",
        user="1:2",
        groups=["5"],
        tty=True,
        open_stdin=True,
        read_only=True,
        init=False,
        stop_signal="SIGINT",
        stop_grace_period=2_500_000_000,
        hosts=["10.0.0.1 a b", "broken", "::1 six"],
        dns_config=DNSConfig(nameservers=["1.1.1.1"], search=["s"], options=["ndots:1"]),
        sysctls={"a.b": "1"},
        capability_add=["CAP_X"],
        capability_drop=["CAP_Y"],
        ulimits=[Ulimit(name="nofile", hard=2, soft=1)],
        oom_score_adj=7,
    )
    found = body(spec)
    assert (found["Hostname"], found["WorkingDir"], found["User"]) == ("web-2", "/tmp", "1:2")
    assert (found["Tty"], found["OpenStdin"], found["StopSignal"]) == (True, True, "SIGINT")
    assert found["StopTimeout"] == 2
    of_host = found["HostConfig"]
    assert of_host["ExtraHosts"] == ["a:10.0.0.1", "b:10.0.0.1", "six:::1"]
    assert (of_host["Dns"], of_host["DnsSearch"], of_host["DnsOptions"]) == (["1.1.1.1"], ["s"], ["ndots:1"])
    assert of_host["Ulimits"] == [{"Name": "nofile", "Hard": 2, "Soft": 1}]
    assert (of_host["Init"], of_host["ReadonlyRootfs"], of_host["OomScoreAdj"]) == (False, True, 7)
    assert (of_host["CapAdd"], of_host["CapDrop"]) == (["CAP_X"], ["CAP_Y"])
    assert (of_host["Sysctls"], of_host["GroupAdd"]) == ({"a.b": "1"}, ["5"])


def test_mounts() -> None:
    bind = with_mount(type="bind", source="/a", target="/b", bind_options=BindOptions(non_recursive=True))
    assert host(bind)["Mounts"] == [
        {
            "Type": "bind",
            "Source": "/a",
            "Target": "/b",
            "ReadOnly": False,
            "BindOptions": {"NonRecursive": True, "Propagation": "rprivate"},
        }
    ]
    assert host(with_mount(source="/a", target="/b"))["Mounts"][0]["Type"] == "bind"
    options = VolumeOptions(no_copy=True, labels={"x": "y"}, subpath="s")
    volume = host(with_mount(type="volume", target="/b", volume_options=options))["Mounts"][0]
    assert volume["VolumeOptions"] == {"NoCopy": True, "Labels": {"x": "y"}, "Subpath": "s"}
    tmpfs = TmpfsOptions(size_bytes=1, mode=448, options=[["noexec"]])
    found = host(with_mount(type="tmpfs", target="/b", tmpfs_options=tmpfs))["Mounts"][0]
    assert found["TmpfsOptions"] == {"SizeBytes": 1, "Mode": 448, "Options": [["noexec"]]}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"type": "bind", "source": "a", "target": "/b"}, "invalid bind mount source, must be an absolute"),
        ({"type": "bind", "source": "", "target": "/b"}, "invalid bind mount source, must be an absolute"),
        ({"type": "volume", "source": "/a", "target": "/b"}, "invalid volume mount source, must not be"),
        ({"type": "tmpfs", "source": "a", "target": "/b"}, "invalid tmpfs source, source must be empty"),
        ({"type": "tmpfs", "target": "b"}, "invalid mount target, must be an absolute path: b"),
    ],
)
def test_a_mount_that_the_engine_would_take_for_another_is_refused(
    fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(Invalid, match=words):
        body(with_mount(**fields))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            ContainerSpec(image="i", healthcheck=HealthConfig(start_interval=1)),
            r"ContainerSpec.Healthcheck.StartInterval needs Docker Engine 25.0 \(API 1.44\); the engine of this"
            r" node has API 1.41",
        ),
        (with_mount(type="image", source="i", target="/x"), "the mount of /x: Type image needs .* 28.0"),
        (
            with_mount(
                type="bind", source="/a", target="/x", bind_options=BindOptions(create_mountpoint=True)
            ),
            "CreateMountpoint needs .* 23.0",
        ),
        (
            with_mount(
                type="bind", source="/a", target="/x", bind_options=BindOptions(read_only_non_recursive=True)
            ),
            "ReadOnlyNonRecursive",
        ),
        (
            with_mount(
                type="bind",
                source="/a",
                target="/x",
                bind_options=BindOptions(read_only_force_recursive=True),
            ),
            "ReadOnlyForceRecursive",
        ),
        (with_mount(type="volume", target="/x", volume_options=VolumeOptions(subpath="s")), "Subpath"),
        (
            with_mount(type="tmpfs", target="/x", tmpfs_options=TmpfsOptions(options=[["a"]])),
            "TmpfsOptions.Options",
        ),
    ],
)
def test_what_an_engine_is_too_old_for_is_refused_and_not_left_out(spec: ContainerSpec, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        body(spec, engine=OLDEST)
    body(spec, engine=NEWEST)


@pytest.mark.parametrize(("option", "last_without"), [("sysctls", 45), ("ifname", 47)])
def test_an_endpoint_s_option_that_the_engine_does_not_know_is_refused(
    option: str, last_without: int
) -> None:
    name = f"com.docker.network.endpoint.{option}"
    network = TaskNetwork("n1", "app", "overlay", driver_opts={name: "x", "its.drivers": "y"})
    with pytest.raises(Invalid, match=rf"^the network app: DriverOpts {name} needs Docker Engine"):
        body(networks=[network], engine=(1, last_without))
    body(networks=[network], engine=(1, last_without + 1))
    body(networks=[TaskNetwork("n1", "app", "overlay", driver_opts={"its.drivers": "y"})], engine=OLDEST)


def test_privileges() -> None:
    profile = base64.b64encode(b'{"a":1}').decode()
    privileges = Privileges(
        seccomp=SeccompOpts(mode="custom", profile=profile),
        app_armor=AppArmorOpts(mode="disabled"),
        no_new_privileges=True,
        se_linux_context=SELinuxContext(user="u", role="r", type="t", level="l"),
    )
    assert host(ContainerSpec(image="i", privileges=privileges))["SecurityOpt"] == [
        *("label=user:u", "label=role:r", "label=level:l", "label=type:t"),
        *('seccomp={"a":1}', "apparmor=unconfined", "no-new-privileges=true"),
    ]
    default = Privileges(seccomp=SeccompOpts(mode="default"), app_armor=AppArmorOpts(mode="default"))
    assert "SecurityOpt" not in host(ContainerSpec(image="i", privileges=default))
    windows = Privileges(credential_spec=CredentialSpec(file="x.json"))
    assert host(ContainerSpec(image="i", privileges=windows))["SecurityOpt"] == [
        "credentialspec=file://x.json"
    ]
    broken = Privileges(seccomp=SeccompOpts(mode="custom", profile="{"))
    with pytest.raises(Invalid, match="not base64"):
        body(ContainerSpec(image="i", privileges=broken))


def test_isolation_is_windows() -> None:
    assert host(ContainerSpec(image="i", isolation="default"))["Isolation"] == "default"
    with pytest.raises(Invalid, match=r"^invalid isolation 'hyperv' on linux$"):
        body(ContainerSpec(image="i", isolation="hyperv"))


def test_resources() -> None:
    limits = Limit(nano_cpus=5, memory_bytes=8 << 20, pids=9)
    found = host(
        resources=ResourceRequirements(limits=limits, reservations=Reservation(memory_bytes=4 << 20))
    )
    assert (found["NanoCpus"], found["Memory"], found["PidsLimit"]) == (5, 8 << 20, 9)
    assert not {"MemoryReservation", "MemorySwap", "MemorySwappiness"} & set(found)
    for swap, gets in ((-1, -1), (0, 8 << 20), (1 << 20, 9 << 20)):
        found = host(resources=ResourceRequirements(limits=limits, swap_bytes=swap, memory_swappiness=0))
        assert (found["MemorySwap"], found["MemorySwappiness"]) == (gets, 0)


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        (ResourceRequirements(swap_bytes=1), "there is none"),
        (ResourceRequirements(limits=Limit(memory_bytes=8 << 20), swap_bytes=-2), "invalid swap value -2"),
        (ResourceRequirements(memory_swappiness=101), "invalid memory swappiness 101"),
    ],
)
def test_swap_that_cannot_be_is_refused_when_the_service_is_made(
    resources: ResourceRequirements, words: str
) -> None:
    task = TaskSpec(container_spec=ContainerSpec(image="i"), resources=resources)
    with pytest.raises(Invalid, match=words):
        validate_service(ServiceSpec(name="web", task_template=task))


def test_the_swarms_log_driver_is_for_those_that_name_none() -> None:
    swarms, own = LogDriver(name="local"), LogDriver(name="json-file", options={"max-size": "1m"})
    assert "LogConfig" not in host()
    assert host(log_driver=swarms)["LogConfig"] == {"Type": "local", "Config": {}}
    template = TaskSpec(container_spec=ContainerSpec(image="image"), log_driver=own)
    context = TaskContext(
        AssignedTask("t1", "svc", 1, 2, RUNNING),
        ServiceTemplate("svc", 1, "web", {}, template),
        "n1",
        "h",
        swarms,
    )
    assert create_body(context)["HostConfig"]["LogConfig"] == {"Type": "json-file", "Config": own.options}


def test_host_ports() -> None:
    ports = [PortConfig(target_port=80, published_port=8080), PortConfig(protocol="udp", target_port=53)]
    found = body(ports=ports)
    assert found["ExposedPorts"] == {"80/tcp": {}, "53/udp": {}}
    assert found["HostConfig"]["PortBindings"] == {
        "80/tcp": [{"HostPort": "8080"}],
        "53/udp": [{"HostPort": ""}],
    }
