"""Services by the API: bodies that are right, odd or wrong, and docker-py."""

from __future__ import annotations

from typing import Any

import docker

from tests.differential.scenario import Call, Py, Scenario, Step, delete, get, post, scenario, settle


def service(**members: Any) -> dict[str, Any]:
    """A service that starts nothing."""
    return {
        "Name": "raw",
        "Mode": {"Replicated": {"Replicas": 0}},
        "TaskTemplate": {"ContainerSpec": {"Image": "$IMAGE"}},
        **members,
    }


def task(**members: Any) -> dict[str, Any]:
    return service(TaskTemplate={"ContainerSpec": {"Image": "$IMAGE"}, **members})


def container(**members: Any) -> dict[str, Any]:
    return service(TaskTemplate={"ContainerSpec": {"Image": "$IMAGE", **members}})


def reserving(resource: dict[str, Any]) -> dict[str, Any]:
    return task(Resources={"Reservations": {"GenericResources": [resource]}})


def created(name: str, *bodies: dict[str, Any] | str, **options: Any) -> Scenario:
    """Each body creates a service, or not; what was stored; and away with it."""
    steps: list[Step] = []
    for body in bodies:
        steps += [post("/services/create", body), get("/services/raw", "Spec"), delete("/services/raw")]
    return scenario(name, *steps, **options)


PORT = {"TargetPort": 80, "PublishedPort": 8080, "PublishMode": "host"}
SCENARIOS = [
    created(
        "create: the least",
        {},
        {"Name": "raw"},
        {"TaskTemplate": {"ContainerSpec": {"Image": "$IMAGE"}}},
        {"Name": "raw", "TaskTemplate": {"ContainerSpec": {"Image": "no-such:1"}}},
        service(),
        service(Mode={}),
        service(Mode={"Global": {}, "Replicated": {}}),
        service(Nonsense=1),
        {
            "name": "raw",
            "mode": {"replicated": {"replicas": 0}},
            "tasktemplate": {"containerspec": {"image": "x"}},
        },
    ),
    scenario(
        "create: no JSON",
        Call("POST", "/services/create", "x"),
        Call("POST", "/services/create", []),
        Call("POST", "/services/create", service(Name=5)),
        Call("POST", "/services/create", service(Labels=[])),
        Call("POST", "/services/create", service(Mode={"Replicated": {"Replicas": -1}})),
        Call("POST", "/services/create", service(Mode={"Replicated": {"Replicas": 1.5}})),
        Call("POST", "/services/create"),
    ),
    created(
        "create: images",
        container(Image=""),
        container(Image="UPPER"),
        container(Image="a b"),
        container(Image="x:y:z"),
        container(Image="x@sha256:1"),
        container(Image="registry.example:5000/a/b:c"),
    ),
    created(
        "create: names",
        *(service(Name=name) for name in ("a.b", "-a", "a-", "a_b", "a--b", "ü", "n" * 63, "n" * 64)),
    ),
    created(
        "create: mounts",
        container(Mounts=[{"Type": "volume", "Target": "/a"}, {"Type": "tmpfs", "Target": "/a"}]),
        container(Mounts=[{"Type": "bind", "Target": "/a"}]),
        container(Mounts=[{"Type": "bind", "Source": "rel", "Target": "/a"}]),
        container(Mounts=[{"Type": "nonsense", "Target": "/a"}]),
        container(Mounts=[{"Type": "volume", "Target": "rel"}]),
        container(Mounts=[{"Type": "volume"}]),
        container(Mounts=[{"Target": "/a"}]),
        container(Mounts=[{"Type": "tmpfs", "Source": "x", "Target": "/a"}]),
        container(
            Mounts=[{"Type": "bind", "Source": "/a", "Target": "/a", "BindOptions": {"Propagation": "x"}}]
        ),
    ),
    created(
        "create: health checks",
        container(Healthcheck={"Test": ["CMD", "true"], "Interval": 1}),
        container(Healthcheck={"Test": ["CMD", "true"], "Timeout": 999999}),
        container(Healthcheck={"Test": ["CMD", "true"], "StartPeriod": 5}),
        container(Healthcheck={"Test": ["CMD", "true"], "Retries": -1}),
        container(Healthcheck={"Test": ["NONE"]}),
        container(Healthcheck={"Test": []}),
        container(Healthcheck={"Test": ["true"]}),
        container(StopSignal="NONSENSE"),
    ),
    created(
        "create: containers oddly",
        container(Isolation="nonsense"),
        container(Ulimits=[{"Name": "nonsense", "Soft": 5, "Hard": 1}]),
        container(Hosts=["nonsense"]),
        container(Env=["NOVALUE", "=x"]),
        container(User="nobody:x:y", Dir="relative"),
        container(Hostname="{{.Nonsense}}"),
        container(Hostname="{{"),
        container(Env=["A={{.Task.Nothing}}"]),
        container(Privileges={"CredentialSpec": {"File": "a", "Registry": "b"}}),
        container(Privileges={"CredentialSpec": {"Config": "abc"}}),
        container(Privileges={"SELinuxContext": {"Disable": True, "User": "u"}}),
        container(DNSConfig={"Nameservers": ["nonsense"]}),
        container(CapabilityAdd=["NONSENSE"], CapabilityDrop=["all"]),
    ),
    created(
        "create: resources",
        task(Resources={"Limits": {"NanoCPUs": 1}}),
        task(Resources={"Reservations": {"NanoCPUs": 999999}}),
        task(Resources={"Limits": {"MemoryBytes": 1}}),
        task(Resources={"Reservations": {"MemoryBytes": 4194303}}),
        task(Resources={"Limits": {"NanoCPUs": -1}}),
        task(Resources={"Limits": {"Pids": -1}}),
        task(Resources={"Limits": {"MemoryBytes": 4194304, "NanoCPUs": 1000000}}),
    ),
    created(
        "create: generic resources",
        reserving({"DiscreteResourceSpec": {"Kind": "gpu", "Value": 1}}),
    ),
    created(
        "create: restarts",
        task(RestartPolicy={"Condition": "sometimes"}),
        task(RestartPolicy={"Delay": -1}),
        task(RestartPolicy={"Window": -1}),
        task(RestartPolicy={"MaxAttempts": -1}),
        task(RestartPolicy={}),
    ),
    created(
        "create: placement",
        task(Placement={"Constraints": ["nonsense"]}),
        task(Placement={"Constraints": ["node.foo==1"]}),
        task(Placement={"Constraints": ["node.role=manager"]}),
        task(Placement={"Constraints": ["node.role == manager", "node.labels.a != b"]}),
        task(Placement={"Constraints": ["== x"]}),
        task(Placement={"Preferences": [{"Spread": {"SpreadDescriptor": "node.foo"}}]}),
        task(Placement={"Preferences": [{}]}),
        task(Placement={"MaxReplicas": -1}),
        task(Placement={"Platforms": [{"Architecture": "z80", "OS": "cpm"}]}),
    ),
    created(
        "create: updates",
        service(UpdateConfig={"Delay": -1}),
        service(UpdateConfig={"Monitor": -1}),
        service(UpdateConfig={"MaxFailureRatio": 1.5}),
        service(UpdateConfig={"MaxFailureRatio": -0.5}),
        service(UpdateConfig={"FailureAction": "nonsense"}),
        service(UpdateConfig={"Order": "nonsense"}),
        service(UpdateConfig={"Parallelism": -1}),
        service(UpdateConfig={}),
        service(RollbackConfig={"Order": "nonsense"}),
    ),
    created(
        "create: nulls in maps",
        service(Labels={"a": None, "b": "c"}),
        container(Labels={"a": None}, Sysctls={"net.ipv4.ip_forward": None}),
    ),
    created(
        "create: words in another case",
        container(
            Mounts=[{"Type": "BIND", "Source": "/a", "Target": "/a"}, {"Type": "Volume", "Target": "/b"}]
        ),
        container(Mounts=[{"Source": "/a", "Target": "/a", "BindOptions": {"Propagation": "RShared"}}]),
        container(Mounts=[{"Type": "Sideways", "Target": "/a"}]),
        container(Isolation="Default"),
        service(EndpointSpec={"Ports": [{**PORT, "Protocol": "TCP", "PublishMode": "HOST"}]}),
        service(EndpointSpec={"Mode": "DNSRR"}),
        task(Runtime="Container"),
        task(RestartPolicy={"Condition": "Any"}),
        service(UpdateConfig={"Order": "Stop-First"}),
        service(UpdateConfig={"FailureAction": "Pause"}),
    ),
    created(
        "create: ports",
        service(EndpointSpec={"Ports": [PORT, PORT]}),
        service(EndpointSpec={"Ports": [PORT, {**PORT, "PublishMode": "ingress"}]}),
        service(EndpointSpec={"Ports": [PORT, {**PORT, "Protocol": "udp"}]}),
        service(EndpointSpec={"Ports": [{"PublishedPort": 81, "PublishMode": "host"}]}),
        service(EndpointSpec={"Mode": "nonsense"}),
        service(EndpointSpec={"Mode": "dnsrr", "Ports": [{**PORT, "PublishMode": "ingress"}]}),
        service(EndpointSpec={"Mode": "dnsrr", "Ports": [PORT]}),
    ),
    created(
        "create: runtimes",
        task(Runtime="container"),
        task(Runtime="nonsense"),
        task(Runtime="attachment", NetworkAttachmentSpec={"ContainerID": "x"}),
        service(TaskTemplate={"Runtime": "plugin", "PluginSpec": {"Name": "x", "Remote": "y"}}),
        service(TaskTemplate={"NetworkAttachmentSpec": {"ContainerID": "x"}}),
        service(TaskTemplate={}),
        task(LogDriver={"Name": "nonsense"}),
        task(LogDriver={"Options": {"a": "b"}}),
        task(ForceUpdate=7),
    ),
    scenario(
        "create: what cannot work",
        post("/services/create", {**container(StopGracePeriod=-1), "Name": "a"}),
        post("/services/create", service(Name="b", RollbackConfig={"Delay": -1})),
        post(
            "/services/create", service(Name="c", EndpointSpec={"Ports": [{**PORT, "Protocol": "nonsense"}]})
        ),
        post("/services/create", service(Name="d", EndpointSpec={"Ports": [{**PORT, "TargetPort": 70000}]})),
        post(
            "/services/create",
            service(
                Name="e", EndpointSpec={"Ports": [{**PORT, "PublishedPort": 85, "PublishMode": "nonsense"}]}
            ),
        ),
        post(
            "/services/create",
            {**reserving({"NamedResourceSpec": {"Kind": "gpu", "Value": "a"}}), "Name": "f"},
        ),
        post(
            "/services/create",
            {**reserving({"DiscreteResourceSpec": {"Kind": "gpu", "Value": -1}}), "Name": "g"},
        ),
        # Without a version: 1.41, as the other calls have, blanks it. The engine 20.10 knows no such member.
        Call("POST", "/services/create", {**container(OomScoreAdj=1001), "Name": "h"}, api=""),
    ),
    scenario(
        "two services and one port",
        post("/services/create", service(EndpointSpec={"Ports": [{**PORT, "PublishMode": "ingress"}]})),
        post(
            "/services/create",
            service(Name="b", EndpointSpec={"Ports": [{**PORT, "PublishMode": "ingress"}]}),
        ),
        post("/services/create", service(Name="c", EndpointSpec={"Ports": [PORT]})),
        post("/services/create", service(Name="d", EndpointSpec={"Ports": [{**PORT, "TargetPort": 1}]})),
    ),
    scenario(
        "services found",
        post("/services/create", service(Name="alpha")),
        post("/services/create", service(Name="alphabet")),
        get("/services/alpha", "Spec.Name"),
        get("/services/alph"),
        get("/services/ALPHA", "Spec.Name"),
        get("/services/$ID{/services/alpha}", "Spec.Name"),
        get('/services?filters={"name":["alpha"]}'),
        get('/services?filters={"name":{"alphab":true}}'),
        get('/services?filters={"label":["x"]}'),
        get('/services?filters={"mode":["global"]}'),
        get('/services?filters={"runtime":["container"]}'),
        get('/services?filters={"runtime":["plugin"]}'),
        get('/services?filters={"color":["red"]}'),
        get("/services?filters=x"),
        get("/services?status=x", "message"),
        get("/services/alpha?insertDefaults=true"),
        get("/services/alpha?insertDefaults=x"),
        delete("/services/alpha"),
        delete("/services/alpha"),
    ),
    scenario(
        "older clients",
        Call("POST", "/services/create", service(), api="v1.30"),
        Call("GET", "/services/raw", api="v1.25"),
        Call("GET", "/services", api="v1.40"),
        Call("GET", "/services?status=true", api="v1.40"),
    ),
    scenario(
        "docker-py's services",
        Py(
            "create",
            lambda client: (
                client.services.create(
                    "$IMAGE".replace("$IMAGE", "skep-test/busybox:latest"),
                    command=["sleep", "1d"],
                    name="py",
                    labels={"a": "b"},
                    env=["A=1"],
                    mounts=["data:/data:ro"],
                    constraints=["node.role==manager"],
                    mode=docker.types.ServiceMode("replicated", replicas=0),
                    restart_policy=docker.types.RestartPolicy(condition="on-failure", max_attempts=2),
                    update_config=docker.types.UpdateConfig(parallelism=2, order="start-first"),
                    resources=docker.types.Resources(cpu_limit=10**9, mem_reservation=2**24),
                    healthcheck=docker.types.Healthcheck(test="true", interval=10**9),
                    endpoint_spec=docker.types.EndpointSpec(mode="dnsrr"),
                ).name
            ),
        ),
        Py("attrs", lambda client: client.services.get("py").attrs),
        Py("list", lambda client: [each.name for each in client.services.list(filters={"label": "a=b"})]),
        Py("list status", lambda client: [each.attrs for each in client.services.list(status=True)]),
        Py("update", lambda client: client.services.get("py").update(labels={"c": "d"}, env=["B=2"])),
        Py("attrs again", lambda client: client.services.get("py").attrs["Spec"]),
        Py("force", lambda client: client.services.get("py").force_update()),
        Py("bad filter", lambda client: client.services.list(filters={"x": "y"})),
        Py("again", lambda client: client.services.create("x", name="py")),
        Py("none", lambda client: client.services.get("nobody")),
        Py("remove", lambda client: client.services.get("py").remove()),
        Py("gone", lambda client: client.services.list()),
    ),
    scenario(
        "docker-py scales",
        Py(
            "create",
            lambda client: (
                client.services.create(
                    "skep-test/busybox:latest", command=["sleep", "1d"], name="py", stop_signal="KILL"
                ).name
            ),
        ),
        settle("py", running=1),
        Py("scale", lambda client: client.services.get("py").scale(2)),
        settle("py", running=2),
        Py(
            "tasks",
            lambda client: [
                t["Slot"] for t in sorted(client.services.get("py").tasks(), key=lambda t: t["Slot"])
            ],
        ),
        Py("logs", lambda client: sum(len(part) for part in client.services.get("py").logs(stdout=True))),
    ),
    scenario(
        "docker-py's swarm",
        Py("attrs", lambda client: client.swarm.attrs),
        Py("version", lambda client: client.swarm.version > 0),
        Py("update", lambda client: client.swarm.update(task_history_retention_limit=4)),
        Py("attrs again", lambda client: (client.swarm.reload(), client.swarm.attrs["Spec"])[1]),
        Py("back", lambda client: client.swarm.update(task_history_retention_limit=5)),
        Py("rotate", lambda client: client.swarm.update(rotate_worker_token=True)),
        Py("init", lambda client: client.swarm.init()),
        Py("join", lambda client: client.swarm.join(["127.0.0.1:2377"], "x")),
        Py("leave", lambda client: client.swarm.leave()),
        Py("unlock", lambda client: client.swarm.unlock("x")),
        Py("get_unlock_key", lambda client: client.swarm.get_unlock_key()),
    ),
]
