"""Networks of the swarm as objects, and services on them."""

from __future__ import annotations

from tests.differential.scenario import Py, delete, get, post, scenario, settle

RUN = "service create -d --no-resolve-image --stop-signal KILL --name web"
OVERLAY = "network create -d overlay --subnet 172.28.0.0/24"
LS = "network ls --filter scope=swarm --format '{{.ID}} {{.Name}} {{.Driver}} {{.Scope}}'"
TASK = {"ContainerSpec": {"Image": "$IMAGE"}}

SCENARIOS = [
    scenario(
        "network ls and inspect",
        f"{OVERLAY} one",
        LS,
        "network ls -q --filter driver=overlay",
        "network ls --format {{.Name}} --filter name=one",
        "network ls --format {{.Name}} --filter type=custom --filter scope=swarm",
        "network ls --format {{.Name}} --filter type=builtin",
        "network inspect one",
        "network inspect --verbose one",
        "network inspect nobody",
        "network rm one",
        "network rm one",
        "network rm -f one",
        LS,
    ),
    scenario(
        "network ls filtered",
        f"{OVERLAY} one",
        f"{OVERLAY.replace('28.0', '28.1')} -l a=b two",
        "network create mine",
        f"{RUN} --network one $IMAGE sleep 1d",
        settle("web", running=1),
        *(
            f"network ls --format '{{{{.Name}}}} {{{{.Scope}}}}' --filter name=one --filter name=two --filter name=mine --filter {text}"
            for text in (
                *("dangling=true", "dangling=false", "dangling=x", "scope=local", "scope=global", "scope=x"),
                *(
                    "type=custom",
                    "type=builtin",
                    "type=x",
                    "driver=bridge",
                    "driver=x",
                    "label=a",
                    "id=nobody",
                ),
                *("scope=swarm --filter scope=local", "scope=swarm --filter dangling=true"),
            )
        ),
        "network ls --no-trunc -q --filter id=$ID{/networks/one}",
        "network rm mine",
    ),
    scenario(
        "network options of other kinds",
        "network create --config-only --subnet 172.28.3.0/24 plan",
        "network create --scope swarm --config-from plan -d overlay three",
        "network inspect three",
        "network create -d overlay --ipam-driver default --ipam-opt a=b --subnet 172.28.4.0/24 four",
        # Docker adds one of its allocator's to the options.
        "network inspect -f '{{.IPAM.Driver}} {{.IPAM.Options.a}} {{json .IPAM.Config}}' four",
        "network create -d overlay --ipam-driver nonsense five",
        "network create -d overlay --ipv6 --subnet 172.28.8.0/24 --subnet fd00:28::/64 six",
        "network create -d overlay --attachable --ingress seven",
        "network create -d overlay --ipv4=false eight",
        "network rm plan",
    ),
    scenario(
        "services on the nodes' own kinds of networks",
        "network create --config-only --subnet 172.28.9.0/24 --gateway 172.28.9.77 --label q=r plan",
        "network create -d bridge --scope swarm --config-from plan own",
        "network inspect own",
        f"{RUN} --network own $IMAGE sleep 1d",
        settle("web", running=1),
        Py(
            "its address",
            lambda client: {
                name: (each["IPAddress"], each["Gateway"])
                for name, each in client.containers.get(client.containers.list()[0].id)
                .attrs["NetworkSettings"]["Networks"]
                .items()
            },
        ),
        "service rm web",
        *(
            f"network create -d bridge --scope swarm --config-from plan {options} odd"
            for options in (
                *("-o a=b", "--label a=b", "-o a=b --label a=b", "--ipv6", "--subnet 172.28.9.0/24"),
                *("--ipam-opt a=b", "--ipam-driver nonsense", "--internal"),
            )
        ),
        "network create -d overlay --label a=b --config-from plan odder",
        "network inspect odd",
        "network create -d bridge --scope swarm --subnet 172.28.10.0/24 --ipam-opt a=b plain",
        "network inspect plain",
        f"network create -d overlay {'a' * 64}",
        f"network create -d overlay -- -{'a' * 63}",
    ),
    scenario(
        "a network of a configuration that nobody has",
        "network create -d bridge --scope swarm --config-from nobody none-such",
        post(
            "/networks/create",
            {
                "Name": "none-such",
                "Driver": "bridge",
                "Scope": "swarm",
                "ConfigFrom": {"Network": "nobody"},
            },
        ),
        "network ls -q --filter name=none-such",
    ),
    scenario(
        "network options",
        f"{OVERLAY} --gateway 172.28.0.254 --ip-range 172.28.0.128/25 --aux-address a=172.28.0.5 --attachable"
        " --internal --label a=b -o com.docker.network.driver.mtu=1400 one",
        "network inspect one",
        "network create -d overlay two",
        "network inspect two",
        *(
            f"network create -d overlay --subnet 172.28.{n}.0/24 --ip-range 172.28.{n}.{within} within{n}"
            for n, within in ((4, "64/26"), (5, "0/25"), (6, "70/26"))
        ),
        *(f"network inspect -f '{{{{json .IPAM.Config}}}}' within{n}" for n in (4, 5, 6)),
        "network create -d overlay --opt com.docker.network.driver.mtu=1400 three",
        "network inspect -f '{{json .Options}}' three",
        "network ls --filter label=a --format {{.Name}}",
        "network ls --filter label=a=c --format {{.Name}}",
    ),
    scenario(
        "networks wrongly",
        f"{OVERLAY} one",
        f"{OVERLAY} one",
        f"{OVERLAY} two",
        "network create -d overlay --subnet 172.28.0.128/25 three",
        "network create -d overlay --subnet nonsense four",
        "network create -d overlay --subnet 172.29.0.0/16 --gateway 10.1.1.1 five",
        "network create -d overlay --subnet 172.29.0.0/31 six",
        "network create -d overlay 'a b'",
        "network create -d overlay --scope local eight",
        "network create --scope swarm -d bridge nine",
        "network create -d overlay ingress",
        "network create -d overlay bridge",
        "network create -d overlay --ingress second",
        "network create local",
        post(
            "/services/create", {"Name": "web", "TaskTemplate": {**TASK, "Networks": [{"Target": "local"}]}}
        ),
        post("/services/create", {"Name": "web", "TaskTemplate": {**TASK, "Networks": [{"Target": "none"}]}}),
        post(
            "/services/create", {"Name": "web", "TaskTemplate": {**TASK, "Networks": [{"Target": "nobody"}]}}
        ),
        "network rm local",
        LS,
    ),
    scenario(
        "single containers on networks",
        f"{OVERLAY} --attachable one",
        "run -d --name alone --network one --ip 172.28.0.77 --network-alias other $IMAGE sleep 1d",
        "inspect -f '{{range $k, $v := .NetworkSettings.Networks}}{{$k}} {{$v.IPAddress}}{{end}}' alone",
        "exec alone nslookup -type=a other",
        "ps -f network=one --format '{{.Names}} {{.Networks}}'",
        "ps -a -f name=alone --format {{.Names}}",
        "network inspect -f '{{range .Containers}}{{if eq .Name \"alone\"}}{{.IPv4Address}}{{end}}{{end}}' one",
        "run --rm --network nobody $IMAGE true",
        "network connect nobody alone",
        "network connect one alone",
        post("/networks/one/connect", {"Container": "alone"}),
        "network connect one nobody",
        "network disconnect one nobody",
        "network disconnect one alone",
        "network disconnect one alone",
        "network connect one alone",
        "rm -f alone",
        post("/networks/nobody/connect", {"Container": "alone"}),
        post(
            "/containers/create?name=x",
            {"Image": "$IMAGE", "Cmd": ["true"], "HostConfig": {"NetworkMode": "nobody"}},
        ),
        "rm x",
        "network rm one",
    ),
    scenario(
        "networks by the API",
        post("/networks/create", {"Name": "one", "Driver": "overlay", "Labels": {"a": "b"}}),
        get("/networks/one"),
        get("/networks/one?scope=swarm"),
        get("/networks/one?scope=local"),
        get("/networks/one?verbose=true"),
        get('/networks?filters={"name":["one"]}'),
        get('/networks?filters={"scope":["swarm"]}'),
        get('/networks?filters={"color":["red"]}'),
        post("/networks/create", {"Name": "one", "Driver": "overlay", "CheckDuplicate": True}),
        post("/networks/create", {"Driver": "overlay"}),
        post("/networks/create", {"Name": "x", "Driver": "overlay", "IPAM": {"Config": [{"Subnet": "x"}]}}),
        get("/networks/nobody"),
        delete("/networks/nobody"),
        delete("/networks/one"),
    ),
    scenario(
        "networks with wrong subnets by the API",
        *(
            post("/networks/create", {"Name": "x", "Driver": "overlay", "IPAM": {"Config": pools}})
            for pools in (
                [{"Subnet": "172.28.0.1/24"}],
                [{"Subnet": "172.28.0.0/255.255.255.0"}],
                [{"Subnet": "172.28.0.0/024"}],
                [{"Gateway": "172.28.0.1"}],
                [{"Subnet": "172.28.0.0/24", "Gateway": "y"}],
                [{"Subnet": "172.28.0.0/24", "Gateway": "172.29.0.1"}],
                [{"Subnet": "172.28.0.0/24", "Gateway": "fd00::1"}],
                [{"Subnet": "172.28.0.0/24", "AuxiliaryAddresses": {"a": "172.29.0.1"}}],
                [{"Subnet": "172.28.0.0/24", "IPRange": "x"}],
                [{"Subnet": "172.28.0.0/24", "IPRange": "fd00::/64"}],
                [{"Subnet": "172.28.0.0/24", "IPRange": "172.29.0.0/25"}],
                [{"Subnet": "172.28.0.0/24", "IPRange": "172.29.0.1/16"}],
                [{"Subnet": "x"}, {"Subnet": "172.28.0.1/24", "Gateway": "1.1.1.1"}],
            )
        ),
    ),
    scenario(
        "services on networks",
        f"{OVERLAY} one",
        f"{RUN} --network one --replicas 2 $IMAGE sleep 1d",
        settle("web", running=2),
        "service inspect web",
        get("/services/web"),
        get('/tasks?filters={"service":["web"]}'),
        "network inspect --verbose -f '{{range $k, $v := .Services}}{{$k}} {{len $v.Tasks}} {{end}}' one",
        "network rm one",
        delete("/networks/one"),
        "network inspect -f '{{len .Containers}}' one",
        "service update -d --no-resolve-image --network-rm one web",
        "service inspect -f '{{json .Spec.TaskTemplate.Networks}}' web",
        "service inspect --pretty web",
    ),
    scenario(
        "network aliases",
        f"{OVERLAY} one",
        "network create -d overlay --subnet 172.28.1.0/24 two",
        f"{RUN} --replicas 0 --network name=one,alias=a,alias=b,driver-opt=c=d $IMAGE",
        "service inspect -f '{{json .Spec.TaskTemplate.Networks}} {{json .Endpoint}}' web",
        "service update -d --no-resolve-image --network-add two web",
        # The client puts them in the order of their ids, which are made up.
        "service inspect -f '{{len .Spec.TaskTemplate.Networks}} {{len .Endpoint.VirtualIPs}}' web",
        "service update -d --no-resolve-image --network-rm two --endpoint-mode dnsrr web",
        "service inspect -f '{{json .Spec.EndpointSpec}} {{json .Endpoint}}' web",
    ),
    scenario(
        "networks of a service as they were",
        f"{OVERLAY} one",
        post(
            "/services/create",
            {
                "Name": "old",
                "Mode": {"Replicated": {"Replicas": 0}},
                "TaskTemplate": TASK,
                "Networks": [{"Target": "one", "Aliases": ["a"]}],
            },
        ),
        get("/services/old"),
        *(
            step
            for name, endpoint in (("new", None), ("empty", {}), ("dns", {"Mode": "dnsrr"}))
            for step in (
                post(
                    "/services/create",
                    {
                        "Name": name,
                        "Mode": {"Replicated": {"Replicas": 0}},
                        "TaskTemplate": {**TASK, "Networks": [{"Target": "one"}]},
                        "EndpointSpec": endpoint,
                    },
                ),
                get(f"/services/{name}", "Spec", "Endpoint"),
            )
        ),
        "service rm new empty dns",
        "network rm one",
    ),
    scenario(
        "services on networks that are not there",
        f"{RUN} --network nobody $IMAGE",
        f"{RUN} --network ingress $IMAGE",
        f"{RUN} --network none --replicas 0 $IMAGE",
        post(
            "/services/create",
            {
                "Name": "raw",
                "Mode": {"Replicated": {"Replicas": 0}},
                "TaskTemplate": {"ContainerSpec": {"Image": "x"}, "Networks": [{"Target": "nobody"}]},
            },
        ),
    ),
    scenario(
        "services on the host's network",
        f"{RUN} --network host $IMAGE sleep 1d",
        settle("web", running=1),
        "service inspect web",
        Py(
            "its container",
            lambda client: [*client.containers.list()[0].attrs["NetworkSettings"]["Networks"]],
        ),
    ),
    scenario(
        "ingress ports",
        f"{RUN} --replicas 0 -p 8080:80 -p 53:53/udp $IMAGE",
        "service inspect web",
        "service inspect --pretty web",
        "service ls --format '{{.Name}} {{.Ports}}'",
        "service create -d --no-resolve-image --name two --replicas 0 -p 8080:81 $IMAGE",
        "service create -d --no-resolve-image --name three --replicas 0 -p 81 $IMAGE",
        "service inspect -f '{{json .Endpoint}}' three",
        "service update -d --no-resolve-image --publish-add 8080:81 three",
        "service update -d --no-resolve-image --publish-add 8081:81 three",
        "service ls --format '{{.Name}} {{.Ports}}'",
        "service create -d --no-resolve-image --name four --replicas 0 -p 8090-8092:90-92 $IMAGE",
        "service ls --format '{{.Name}} {{.Ports}}' --filter name=four",
        "service create -d --no-resolve-image --name five --endpoint-mode dnsrr -p 70:70 $IMAGE",
        "service rm web four",  # of several that need it, Docker names any
        delete("/networks/ingress"),
    ),
    scenario(
        "network prune and connect",
        f"{OVERLAY} --attachable one",
        "network prune -f --filter label=none",
        "network prune -f --filter until=1h",
        LS,
        "network create -d overlay --subnet 172.28.7.0/24 two",
        "run -d --rm --network two $IMAGE sleep 1d",
        "network create mine",
    ),
    scenario(
        "docker-py's networks",
        Py("create", lambda client: client.networks.create("one", driver="overlay", attachable=True).name),
        Py("attrs", lambda client: client.networks.list(names=["one"])[0].attrs),
        Py(
            "list", lambda client: sorted(n.name for n in client.networks.list(filters={"driver": "overlay"}))
        ),
        Py("again", lambda client: client.networks.create("one", driver="overlay", check_duplicate=True)),
        Py("get none", lambda client: client.networks.get("nobody")),
        Py("remove", lambda client: client.networks.get("one").remove()),
    ),
]
