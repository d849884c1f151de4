"""`docker swarm …`, /swarm, /info, pings: in no swarm, making and leaving one, and in one."""

from __future__ import annotations

from typing import Any

from tests.differential.scenario import Call, Py, Step, Until, Update, delete, get, post, scenario
from tests.differential.sides import ADDRESS

INIT = f"swarm init --advertise-addr {ADDRESS} --listen-addr {ADDRESS}"
LEAVE = "swarm leave --force"
QUIET = "service create -d --no-resolve-image --replicas 0"
OUTSIDE = "none"
TOKEN = f"SWMTKN-1-{'0' * 49}a-{'1' * 25}"
BAD_DIGEST = f"SWMTKN-1-{'z' * 50}-{'1' * 25}"  # more than SHA-256 gives
SWARM_OF_INFO = (
    "Swarm.LocalNodeState",
    "Swarm.ControlAvailable",
    "Swarm.Error",
    "Swarm.NodeAddr",
    "Swarm.Nodes",
)


def swarm(*members: str) -> Call:
    return get("/swarm", *members)


def inits(*bodies: dict[str, Any]) -> tuple[Step, ...]:
    """Makes a swarm with each of them, looks at it and leaves it."""
    return tuple(
        step
        for body in bodies
        for step in (
            post("/swarm/init", {"ListenAddr": ADDRESS, "AdvertiseAddr": ADDRESS, **body}),
            swarm("Spec", "DefaultAddrPool", "SubnetSize", "DataPathPort"),
            get("/info", "Swarm.Cluster.DefaultAddrPool", "Swarm.Cluster.SubnetSize"),
            get("/nodes"),
            post("/swarm/leave?force=1"),
        )
    )


SCENARIOS = [
    # In no swarm
    scenario(
        "lists of a swarm without one",
        *(get(f"/{kind}") for kind in ("swarm", "nodes", "services", "tasks", "secrets", "configs")),
        swarm=OUTSIDE,
    ),
    scenario(
        "objects of a swarm without one",
        *(get(f"/{kind}/x") for kind in ("nodes", "services", "tasks", "secrets", "configs")),
        get("/services/x/logs?stdout=1"),
        get("/swarm/unlockkey"),
        swarm=OUTSIDE,
    ),
    scenario(
        "writes to a swarm without one",
        post("/services/create", {"Name": "web"}),
        post("/secrets/create", {"Name": "s", "Data": "eA=="}),
        post("/configs/create", {"Name": "c", "Data": "eA=="}),
        post("/swarm/update?version=1", {}),
        post("/swarm/unlock", {"UnlockKey": "x"}),
        post("/swarm/leave"),
        post("/swarm/leave?force=1"),
        post("/nodes/x/update?version=1", {}),
        swarm=OUTSIDE,
    ),
    scenario(
        "wrong requests without a swarm: the request comes first",
        *(
            post(path, body)
            for path in (
                "/swarm/update?version=1",
                "/services/create",
                "/services/x/update?version=1",
                "/nodes/x/update?version=1",
                "/secrets/create",
                "/configs/x/update?version=1",
            )
            for body in ("", [], {"Name": 5, "Role": 5})
        ),
        post("/swarm/update?version=x", {}),
        post("/swarm/update", {}),
        post("/swarm/update?version=1&rotateWorkerToken=x", {}),
        post("/swarm/update?version=1&rotateManagerUnlockKey=x", {}),
        post("/services/x/update", {}),
        post("/nodes/x/update?version=x", {}),
        post("/secrets/x/update", {}),
        swarm=OUTSIDE,
    ),
    scenario(
        "commands without a swarm",
        *(f"{kind} ls" for kind in ("node", "service", "secret", "config", "stack")),
        "swarm leave",
        "swarm join-token worker",
        "swarm unlock-key",
        "node inspect self",
        "service create $IMAGE",
        "service ps web",
        swarm=OUTSIDE,
    ),
    scenario(
        "an overlay network without a swarm",
        "network create -d overlay ov",
        swarm=OUTSIDE,
    ),
    scenario(
        "the engine's word without a swarm",
        get("/info", "Swarm"),
        Call(
            "GET",
            "/_ping",
            headers=("Content-Type", "Swarm", "Api-Version", "Ostype", "Cache-Control", "Pragma"),
        ),
        Call("HEAD", "/_ping", headers=("Content-Type", "Swarm", "Api-Version", "Docker-Experimental")),
        "info --format {{.Swarm.LocalNodeState}}",
        swarm=OUTSIDE,
    ),
    scenario(
        "joining wrongly",
        "swarm join --token x 127.0.0.1:9999",
        post("/swarm/join", {}),
        post("/swarm/join", {"ListenAddr": "0.0.0.0:2377", "JoinToken": "x"}),
        post("/swarm/join", {"ListenAddr": "0.0.0.0:2377", "RemoteAddrs": ["127.0.0.1:9"], "JoinToken": "x"}),
        swarm=OUTSIDE,
    ),
    scenario(
        "joining nobody",
        post(
            "/swarm/join",
            {
                "ListenAddr": ADDRESS,
                "AdvertiseAddr": ADDRESS,
                "RemoteAddrs": ["127.0.0.1:9"],
                "JoinToken": TOKEN,
            },
        ),
        post("/swarm/leave?force=1"),
        post(
            "/swarm/join",
            {"ListenAddr": ADDRESS, "AdvertiseAddr": ADDRESS, "RemoteAddrs": ["a..b:1"], "JoinToken": TOKEN},
        ),
        post("/swarm/leave?force=1"),
        post("/swarm/join", {"ListenAddr": ADDRESS, "RemoteAddrs": ["x:1"], "JoinToken": BAD_DIGEST}),
        post("/swarm/leave?force=1"),
        swarm="own",
        slow=True,
    ),
    scenario(
        "initialising wrongly",
        post("/swarm/init", {}),
        post("/swarm/init", {"ListenAddr": "nonsense"}),
        post("/swarm/init", {"ListenAddr": ADDRESS, "AdvertiseAddr": "nonsense"}),
        post("/swarm/init", {"ListenAddr": ADDRESS, "AdvertiseAddr": "0.0.0.0:2377"}),
        post("/swarm/init", {"ListenAddr": ADDRESS, "AdvertiseAddr": ADDRESS, "DataPathPort": 1}),
        post("/swarm/init", {"ListenAddr": ADDRESS, "AdvertiseAddr": ADDRESS, "DataPathAddr": "nonsense"}),
        post("/swarm/init", {"ListenAddr": ADDRESS, "AdvertiseAddr": ADDRESS, "DataPathAddr": "0.0.0.0"}),
        post("/swarm/init", {"ListenAddr": ADDRESS, "AdvertiseAddr": ADDRESS, "DataPathAddr": "127.0.0.1:1"}),
        post("/swarm/init", {"ListenAddr": ADDRESS, "AdvertiseAddr": ADDRESS, "DefaultAddrPool": ["x"]}),
        f"{INIT} --default-addr-pool 10.0.0.0/8 --default-addr-pool-mask-length 7",
        f"{INIT} --default-addr-pool 10.0.0.0/24 --default-addr-pool-mask-length 16",
        f"{INIT} --default-addr-pool 10.0.0.0/8 --default-addr-pool-mask-length 30",
        swarm=OUTSIDE,
    ),
    scenario(
        "init with a wrong setting",
        post(
            "/swarm/init",
            {"ListenAddr": ADDRESS, "AdvertiseAddr": ADDRESS, "Spec": {"CAConfig": {"NodeCertExpiry": 1}}},
        ),
        swarm="own",
    ),
    scenario(
        "docker-py without a swarm",
        Py("services.list()", lambda client: client.services.list()),
        Py("swarm.attrs", lambda client: client.swarm.reload()),
        Py("swarm.leave()", lambda client: client.swarm.leave()),
        Py("nodes.list()", lambda client: client.nodes.list()),
        swarm=OUTSIDE,
    ),
    # Swarms of their own
    scenario("init and leave", INIT, "node ls", INIT, "swarm leave", LEAVE, "swarm leave", swarm="own"),
    scenario(
        "no routing mesh",
        INIT,
        f"{QUIET} --name hosts -p mode=host,target=80,published=80 $IMAGE",
        f"{QUIET} --name plain $IMAGE",
        Until("/networks/ingress", "Name", "ingress"),
        delete("/networks/ingress"),
        Until("/networks/ingress", "message", "network ingress not found"),
        f"{QUIET} --name x -p 81:80 $IMAGE",
        f"{QUIET} --name x -p 80 $IMAGE",
        f"{QUIET} --name x -p 80:80 $IMAGE",
        f"{QUIET} --name y -p mode=host,target=80,published=82 $IMAGE",
        "service update -d --no-resolve-image --publish-add 83:80 plain",
        "service update -d --no-resolve-image --label-add a=b hosts",
        "network create -d overlay --ingress --subnet 172.28.0.0/24 mesh",
        "service update -d --no-resolve-image --publish-add 83:80 plain",
        "service ls --format '{{.Name}} {{.Ports}}'",
        LEAVE,
        swarm="own",
    ),
    scenario("init with all defaults", INIT, swarm(), get("/info", *SWARM_OF_INFO), LEAVE, swarm="own"),
    scenario(
        "init with all options",
        f"{INIT} --availability drain --cert-expiry 1000h --dispatcher-heartbeat 7s --task-history-limit 3"
        " --max-snapshots 2 --snapshot-interval 5000 --default-addr-pool 172.30.0.0/16"
        " --default-addr-pool-mask-length 26 --data-path-port 4800 --data-path-addr 127.0.0.1",
        swarm(),
        "node ls",
        "info --format {{json .Swarm.Cluster.DefaultAddrPool}}",
        LEAVE,
        swarm="own",
        slow=True,
    ),
    scenario(
        "init with autolock",
        f"{INIT} --autolock",
        "swarm unlock-key",
        "swarm unlock-key -q",
        "swarm unlock-key --rotate",
        "swarm unlock-key --rotate -q",
        "swarm update --autolock=false",
        "swarm unlock-key",
        "swarm unlock-key --rotate",
        LEAVE,
        swarm="own",
        slow=True,
    ),
    scenario(
        "the API's init",
        post(
            "/swarm/init", {"ListenAddr": ADDRESS, "AdvertiseAddr": ADDRESS, "Spec": {"Labels": {"a": "b"}}}
        ),
        swarm("Spec"),
        post("/swarm/init", {"ListenAddr": ADDRESS}),
        post("/swarm/join", {"ListenAddr": ADDRESS, "RemoteAddrs": [ADDRESS], "JoinToken": "x"}),
        post("/swarm/leave"),
        post("/swarm/leave?force=true"),
        swarm="own",
        slow=True,
    ),
    scenario(
        "init: address pools left out, null, none, and with a size",
        *inits(
            {},
            {"DefaultAddrPool": None, "SubnetSize": 28},
            {"DefaultAddrPool": [], "SubnetSize": 0},
            {"DefaultAddrPool": [], "SubnetSize": 26},
            {"DefaultAddrPool": ["10.5.0.7/16"]},
            {"SubnetSize": 33},
        ),
        swarm="own",
        slow=True,
    ),
    scenario(
        "init: settings left out, null and zero",
        *inits(
            {"Spec": None, "Availability": None, "DataPathPort": None, "DataPathAddr": None},
            {"Spec": {"Name": "", "Labels": None, "Orchestration": None, "Raft": None, "Dispatcher": None}},
            {
                "Spec": {
                    "Orchestration": {"TaskHistoryRetentionLimit": 0},
                    "CAConfig": None,
                    "TaskDefaults": None,
                }
            },
            {"Spec": {"Raft": {"KeepOldSnapshots": 0, "ElectionTick": 0}, "EncryptionConfig": None}},
        ),
        swarm="own",
        slow=True,
    ),
    scenario(
        "init: what is refused",
        *(
            post("/swarm/init", {"ListenAddr": ADDRESS, "AdvertiseAddr": ADDRESS, **wrong})
            for wrong in ({"Spec": {"Name": "other"}}, {"Availability": "bogus"}, {"DataPathPort": 80})
        ),
        swarm="own",
        slow=True,
    ),
    scenario(
        "docker-py's init, with nothing and with little",
        *(
            step
            for options in ({}, {"snapshot_interval": 5000}, {"default_addr_pool": ["10.20.0.0/16"]})
            for step in (
                Py(
                    f"swarm.init({options})",
                    lambda client, options=options: client.swarm.init(
                        advertise_addr=ADDRESS, listen_addr=ADDRESS, **options
                    ),
                ),
                swarm("Spec", "DefaultAddrPool", "SubnetSize"),
                Py("swarm.update()", lambda client: client.swarm.update(labels={"a": "b"})),
                swarm("Spec.Orchestration", "Spec.Labels"),
                Py("swarm.leave(force=True)", lambda client: client.swarm.leave(force=True)),
            )
        ),
        swarm="own",
        slow=True,
    ),
    scenario(
        "docker-py's init",
        Py(
            "swarm.init()",
            lambda client: client.swarm.init(
                advertise_addr=ADDRESS, listen_addr=ADDRESS, task_history_retention_limit=2, name="default"
            ),
        ),
        Py("swarm.attrs", lambda client: client.swarm.attrs["Spec"]),
        Py("swarm.update()", lambda client: client.swarm.update(snapshot_interval=8000)),
        Py("swarm.get_unlock_key()", lambda client: client.swarm.get_unlock_key()),
        Py("swarm.leave()", lambda client: client.swarm.leave()),
        Py("swarm.leave(force=True)", lambda client: client.swarm.leave(force=True)),
        swarm="own",
        slow=True,
    ),
    # In a swarm
    scenario("the swarm", swarm()),
    scenario(
        "init and join where there is a swarm: that comes before what is wrong with the request",
        *(
            post(f"/swarm/{order}", body)
            for order in ("init", "join")
            for body in (
                {},
                {"ListenAddr": "nonsense"},
                {"ListenAddr": ADDRESS, "AdvertiseAddr": "nonsense"},
                {"ListenAddr": ADDRESS, "DefaultAddrPool": ["x"], "RemoteAddrs": ["x:1:2"], "JoinToken": "x"},
                {"ListenAddr": 5},
                [],
                "",
            )
        ),
        post("/swarm/unlock", {}),
        post("/swarm/unlock", []),
    ),
    scenario("the swarm in docker info", get("/info", "Swarm"), "info --format {{json .Swarm}}"),
    scenario(
        "ping in a swarm",
        Call("GET", "/_ping", headers=("Swarm", "Api-Version", "Content-Type")),
        Call("HEAD", "/_ping", headers=("Swarm", "Api-Version", "Content-Type")),
        Call("GET", "/_ping", api="", headers=("Swarm",)),
    ),
    scenario(
        "versions",
        get("/version", "Version", "ApiVersion", "MinAPIVersion", "Os", "Arch", "Experimental"),
        Call("GET", "/services", api="v1.99"),
        Call("GET", "/services", api="v1.24"),
        Call("GET", "/services", api="v1.23"),
        Call("GET", "/services", api="vx"),
        Call("GET", "/services", api=""),
        Call("PUT", "/services"),
        Call("GET", "/swarm/nothing"),
        Call("DELETE", "/swarm"),
    ),
    scenario(
        "join tokens",
        "swarm join-token worker",
        "swarm join-token manager",
        "swarm join-token -q worker",
        "swarm join-token --rotate worker",
        "swarm join-token --rotate -q manager",
        "swarm join-token",
        "swarm join-token nobody",
    ),
    scenario(
        "swarm update",
        "swarm update",
        "swarm update --task-history-limit 7",
        "swarm update --cert-expiry 2000h --dispatcher-heartbeat 10s",
        "swarm update --snapshot-interval 777 --max-snapshots 4",
        swarm("Spec"),
        "swarm update --cert-expiry 1m",
        "swarm update --cert-expiry 2160h0m0s --dispatcher-heartbeat 5s --task-history-limit 5"
        " --snapshot-interval 10000 --max-snapshots 0",
        swarm("Spec"),
    ),
    scenario(
        "swarm update by the API",
        Update("/swarm", {"Labels": {"color": "blue"}}),
        swarm("Spec.Labels"),
        Update("/swarm", {"Name": "other"}),
        Update("/swarm", {"Labels": None}),
        post("/swarm/update", {}),
        post("/swarm/update?version=x", {}),
        post("/swarm/update?version=1", {"Name": "default"}),
        Update("/swarm", {"Dispatcher": {"HeartbeatPeriod": -1}}),
        Update("/swarm", {"CAConfig": {"NodeCertExpiry": 1000}}),
        Update("/swarm", {"Raft": {"ElectionTick": 2, "HeartbeatTick": 2}}),
        Update("/swarm", {"Raft": {"ElectionTick": 10, "HeartbeatTick": 1}}),
        Update("/swarm", {"Orchestration": {"TaskHistoryRetentionLimit": "five"}}),
    ),
    scenario("autolock off and on", "swarm unlock-key", get("/swarm/unlockkey"), "swarm unlock"),
    scenario(
        "the swarm's certificate", "swarm ca", "swarm ca --cert-expiry 5h", "swarm ca --ca-cert /nowhere"
    ),
    scenario(
        "a new root",
        "swarm ca --rotate --detach",
        "swarm ca --rotate -q",
        swarm("RootRotationInProgress", "Spec.CAConfig"),
        slow=True,
    ),
    scenario(
        "in a swarm already",
        INIT,
        f"swarm join --token SWMTKN-1-x-y {ADDRESS}",
        "swarm leave",
        post("/swarm/unlock", {"UnlockKey": "x"}),
        post("/swarm/unlock", {}),
    ),
]
