"""Overlay networks through the docker client."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from .hosts import Host, Swarm, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]

STACK = """version: "3.8"
services:
  web: {image: "%s", command: "sleep 1d", networks: [front, default]}
  db: {image: "%s", command: "sleep 1d"}
networks: {front: {}}
"""


def test_networks_of_the_swarm_and_of_the_engine_are_one_list(swarm: Swarm) -> None:
    manager = swarm.manager
    manager.docker("network create -d overlay --label of=me listed")
    manager.docker("network create local1")
    try:
        rows = manager.docker("network ls --format '{{.Name}} {{.Driver}} {{.Scope}}'").splitlines()
        assert {"listed overlay swarm", "ingress overlay swarm", "local1 bridge local"} <= set(rows)
        assert len(rows) == len(set(rows))
        swarms = manager.docker("network ls --filter scope=swarm --format {{.Name}}")
        assert set(swarms.splitlines()) == {"listed", "ingress"}
        assert manager.docker("network ls -q --filter label=of=me --no-trunc") == str(
            manager.json("network inspect listed")[0]["Id"]
        )
        for name in ("listed", "local1"):
            refused = manager.run("network create -d overlay", name, check=False)
            assert f"network with name {name} already exists" in refused.stderr
        assert "already exists" in manager.run("network create listed", check=False).stderr
    finally:
        assert manager.docker("network rm listed local1") == "listed\nlocal1"


def test_inspect_shows_what_was_asked_for_and_what_was_given(swarm: Swarm) -> None:
    manager = swarm.manager
    options = "--attachable --internal --subnet 10.77.0.0/24 --gateway 10.77.0.9 --opt com.docker.network.driver.mtu=1400"
    network_id = manager.docker("network create -d overlay", *options.split(), "shown")
    try:
        (found,) = manager.json("network inspect shown")
        assert found["Id"] == network_id
        assert found["IPAM"]["Config"] == [{"Subnet": "10.77.0.0/24", "Gateway": "10.77.0.9"}]
        assert found["Options"]["com.docker.network.driver.mtu"] == "1400"
        assert int(found["Options"]["com.docker.network.driver.overlay.vxlanid_list"]) > 4096
        assert (found["Attachable"], found["Internal"], found["Ingress"]) == (True, True, False)
        (again,) = manager.json("network inspect", network_id[:8])
        assert again == found
    finally:
        manager.docker("network rm shown")
    assert "shown" in manager.run("network inspect shown", check=False).stderr


def test_a_worker_refuses_to_make_networks_of_the_swarm(swarm: Swarm) -> None:
    refused = swarm.workers[0].run("network create -d overlay x", check=False)
    assert "Cannot create a multi-host network from a worker node" in refused.stderr


def test_a_stack_is_deployed_with_its_networks_and_taken_away(
    swarm: Swarm, busybox_image: str, tmp_path: Path
) -> None:
    manager = swarm.manager
    compose = tmp_path / "c.yml"
    compose.write_text(STACK % (busybox_image, busybox_image))
    manager.docker("stack deploy -c {} st", compose)
    try:
        ids = {n["Name"]: n["Id"] for n in manager.json("network inspect st_default st_front")}
        (service,) = manager.json("service inspect st_web")
        attached = {each["Target"] for each in service["Spec"]["TaskTemplate"]["Networks"]}
        assert attached == set(ids.values())
        refused = manager.run("network rm st_front", check=False)
        assert f"is in use by service {service['ID']}" in refused.stderr
        wait_until("the stack runs", lambda: manager.running("st_web") and manager.running("st_db"))
    finally:
        manager.docker("stack rm st")
    assert manager.docker("network ls -q --filter name=st_") == ""


def test_tasks_have_the_addresses_that_the_swarm_gave_them(swarm: Swarm, busybox_image: str) -> None:
    manager = swarm.manager
    manager.docker("network create -d overlay --subnet 10.78.0.0/24 net")
    options = [
        "--name",
        "web",
        "--replicas",
        "3",
        "--network",
        "name=net,alias=www",
        "-p",
        "8095:80",
        "--stop-signal",
        "KILL",
    ]
    created = manager.run("service create -d", *options, busybox_image, "sleep", "1d")
    try:
        assert "not supported" not in created.stderr
        wait_until("three run", lambda: len(manager.running("web")) == 3)
        (service,) = manager.json("service inspect web")
        ports = service["Endpoint"]["Ports"]
        assert [(p["PublishedPort"], p["PublishMode"]) for p in ports] == [(8095, "ingress")]
        assert manager.docker("service ls --format {{.Ports}}") == "*:8095->80/tcp"
        assert [v["Addr"].partition(".")[0] for v in service["Endpoint"]["VirtualIPs"]] == ["10", "10"]
        given: dict[str, str] = {}
        for row in manager.running("web"):
            (task,) = manager.json("inspect --type task", row["ID"])
            networks = {a["Network"]["Spec"]["Name"]: a["Addresses"] for a in task["NetworksAttachments"]}
            assert set(networks) == {"net", "ingress"}
            given[task["Status"]["ContainerStatus"]["ContainerID"]] = networks["net"][0]
        assert len(set(given.values())) == 3
        for container, address in given.items():
            (inspected,) = manager.json("inspect", container)
            attached = inspected["NetworkSettings"]["Networks"]
            assert attached["net"]["IPAddress"] == address.partition("/")[0]
        (network,) = manager.json("network inspect net")
        assert {c: e["IPv4Address"] for c, e in network["Containers"].items()} == given
        first = next(iter(given))

        def finds(name: str) -> str:
            return manager.run("exec {} nslookup {}", first, name, check=False).stdout

        def finds_all() -> bool:
            return all(address.partition("/")[0] in finds("tasks.web") for address in given.values())

        # One question that comes before the names do takes the engine some seconds.
        wait_until("the service's names lead to its tasks", finds_all)
        assert "Address" in finds("www").partition("\n\n")[2]
        rows = manager.docker("network ls --format '{{.Name}} {{.Driver}} {{.Scope}}'").splitlines()
        assert [row for row in rows if row.startswith(("net ", "ingress "))] == [
            "ingress overlay swarm",
            "net overlay swarm",
        ]
        swarm.workers[0].docker("network inspect net")
        (verbose,) = manager.json("network inspect --verbose net")
        tasks = verbose["Services"]["web"]["Tasks"]
        assert {task["EndpointIP"] for task in tasks} == {a.partition("/")[0] for a in given.values()}
        assert verbose["Services"]["web"]["VIP"] in [
            v["Addr"].partition("/")[0] for v in service["Endpoint"]["VirtualIPs"]
        ]
    finally:
        manager.docker("service rm web")
    manager.docker("network rm net")
    engine = ("docker", "-H", swarm.engine, "network", "ls", "-q", "--filter", "name=^net$")

    def bridges() -> str:
        return subprocess.run(engine, check=True, capture_output=True, text=True).stdout

    wait_until("the bridges are gone", lambda: not bridges())


def test_single_containers_are_kept_from_networks_that_are_not_attachable(
    swarm: Swarm, busybox_image: str
) -> None:
    manager = swarm.manager
    manager.docker("network create -d overlay closed")
    container = manager.docker("create {} true", busybox_image)
    try:
        for host in (manager, swarm.workers[0]):
            for command in (
                ["run", "--rm", "--network", "closed", busybox_image, "true"],
                ["network", "connect", "closed", container],
            ):
                refused = host.run(*command, check=False)
                assert refused.returncode != 0
                assert "network closed not manually attachable" in refused.stderr
        assert "hello" in manager.docker("run --rm --network none {} echo hello", busybox_image)
    finally:
        manager.docker("rm", container)
        manager.docker("network rm closed")


def address_of(host: Host, container: str, network: str) -> str:
    return str(host.json("inspect", container)[0]["NetworkSettings"]["Networks"][network]["IPAddress"])


def test_single_containers_have_addresses_of_the_swarms(swarm: Swarm, busybox_image: str) -> None:
    """On any node; nobody else gets them, until the container is gone."""
    manager, (one, two) = swarm.manager, swarm.workers
    manager.docker("network create -d overlay --attachable --subnet 10.78.0.0/24 att")
    sleep = ("--network", "att", busybox_image, "sleep", "1d")
    try:
        manager.docker("run -d --name a1 --network-alias first", *sleep)
        one.docker("run -d --name b1", *sleep)
        two.docker("run -d --name c1 --ip 10.78.0.77", *sleep)
        found = {name: address_of(manager, name, "att") for name in ("a1", "b1", "c1")}
        assert found["c1"] == "10.78.0.77"
        assert len(set(found.values())) == 3
        taken = manager.run("run --rm --ip 10.78.0.77", *sleep[:-1], "0", check=False)
        assert "address 10.78.0.77 of network att is already in use" in taken.stderr
        outside = one.run("run --rm --ip 10.9.9.9", *sleep[:-1], "0", check=False)
        assert "does not belong to network att's subnet 10.78.0.0/24" in outside.stderr
        assert f"Address: {found['a1']}" in manager.docker("exec b1 nslookup first")
        (inspected,) = one.json("network inspect att")
        assert {each["Name"] for each in inspected["Containers"].values()} == {"a1", "b1", "c1"}

        # A service on the same network gets none of them; a stopped container keeps its own.
        one.docker("stop -t 0 b1")
        manager.docker("service create -d --name s --replicas 6", *sleep)
        wait_until("it runs", lambda: len(manager.running("s")) == 6)
        tasks = manager.json("inspect --type task", *(row["ID"] for row in manager.running("s")))
        given = {each["NetworksAttachments"][0]["Addresses"][0].partition("/")[0] for each in tasks}
        assert len(given) == 6
        assert not given & set(found.values())
        one.docker("start b1")
        assert address_of(one, "b1", "att") == found["b1"]
        manager.docker("service rm s")
        wait_until("its tasks are gone", lambda: not manager.run("ps -q --filter name=s.").stdout)
        refused = manager.run("network rm att", check=False)
        assert "is in use by task" in refused.stderr
    finally:
        manager.docker("rm -f a1 b1 c1")
        manager.docker("network rm att")


def test_a_running_container_is_put_on_a_network_and_taken_off(swarm: Swarm, busybox_image: str) -> None:
    worker, manager = swarm.workers[0], swarm.manager
    network_id = manager.docker("network create -d overlay --attachable plugged")
    try:
        worker.docker("run -d --name plug {} sleep 1d", busybox_image)
        worker.docker("network connect --alias me {} plug", network_id)
        before = address_of(worker, "plug", "plugged")
        assert f"Address: {before}" in worker.docker("exec plug nslookup me")
        twice = worker.run("network connect plugged p", check=False)
        assert twice.returncode != 0
        worker.docker("network disconnect {} plug", network_id)
        assert set(worker.json("inspect plug")[0]["NetworkSettings"]["Networks"]) == {"bridge"}
        # It is free again at once: somebody else may ask for it.
        worker.docker("network connect --ip {} plugged plug", before)
        assert address_of(worker, "plug", "plugged") == before
        # Whatever else is asked of the connection goes to the engine with it.
        worker.docker("run -d --name plug2 {} sleep 1d", busybox_image)
        also = ("--link", "plug:other", "--link-local-ip", "169.254.7.7", "--driver-opt", "mine=yes")
        worker.docker("network connect", *also, "plugged", "plug2")
        endpoint = worker.json("inspect plug2")[0]["NetworkSettings"]["Networks"]["plugged"]
        assert endpoint["Links"] == ["plug:other"]
        assert endpoint["IPAMConfig"]["LinkLocalIPs"] == ["169.254.7.7"]
        assert endpoint["DriverOpts"]["mine"] == "yes"
        assert f"Address: {before}" in worker.docker("exec plug2 nslookup other")
    finally:
        worker.docker("rm -f plug plug2")
        manager.docker("network rm plugged")


def test_a_network_made_again_at_once_is_the_new_one(swarm: Swarm, busybox_image: str) -> None:
    """The bridge of the one before lingers, with the same name and subnet."""
    manager = swarm.manager
    make = ["network", "create", "-d", "overlay", "--attachable", "--subnet", "10.80.0.0/24", "again"]
    manager.docker(*make)
    manager.docker("run --rm --network again {} true", busybox_image)
    manager.docker("network rm again")
    manager.docker(*make)
    try:
        service = ["service", "create", "-d", "--name", "once", "--network", "again"]
        options = ["--restart-condition", "none", "--stop-grace-period", "0s"]
        manager.docker(*service, *options, busybox_image, "sleep", "1d")
        manager.docker("run -d --name single {} sleep 1d", busybox_image)
        manager.docker("network connect --ip 10.80.0.77 again single")
        (network,) = manager.json("network inspect again")
        assert "10.80.0.77/24" in [each["IPv4Address"] for each in network["Containers"].values()]
        manager.docker("network disconnect again single")
        wait_until("its task runs", lambda: manager.running("once"))
    finally:
        manager.run("rm -f single", check=False)
        manager.run("service rm once", check=False)
        manager.run("network rm again", check=False)


def test_what_single_containers_have_outlives_the_daemons(swarm: Swarm, busybox_image: str) -> None:
    """What went while a daemon was away is free again, what is there is kept."""
    worker, manager = swarm.workers[1], swarm.manager
    manager.docker("network create -d overlay --attachable --subnet 10.79.0.0/24 kept")
    try:
        for name, address in (("stays", "10.79.0.50"), ("goes", "10.79.0.51")):
            run = ("run", "-d", "--name", name, "--network", "kept", "--ip", address, busybox_image)
            worker.docker(*run, "sleep", "1d")
        worker.stop()
        manager.docker("rm -f goes")
        manager.stop()
        manager.start()
        worker.start()
        wait_until("both are ready", lambda: swarm.nodes().get(worker.name) == "Ready")
        assert address_of(worker, "stays", "kept") == "10.79.0.50"
        taken = manager.run("run --rm --network kept --ip 10.79.0.50 {} true", busybox_image, check=False)
        assert "address 10.79.0.50 of network kept is already in use" in taken.stderr
        again = ("run", "--rm", "--network", "kept", "--ip", "10.79.0.51", busybox_image, "true")
        wait_until("it is free again", lambda: manager.run(*again, check=False).returncode == 0, 10)
        manager.docker(*again)
    finally:
        manager.docker("rm -f stays")
        manager.docker("network rm kept")


def test_nodes_own_networks_can_be_a_services(swarm: Swarm, busybox_image: str) -> None:
    manager = swarm.manager
    manager.docker(
        "service create -q --name hn --network host --stop-signal KILL {} sleep 1d",
        busybox_image,
    )
    try:
        (row,) = manager.running("hn")
        (task,) = manager.json("inspect --type task", row["ID"])
        (inspected,) = manager.json("inspect", task["Status"]["ContainerStatus"]["ContainerID"])
        assert inspected["HostConfig"]["NetworkMode"] == "host"
    finally:
        manager.docker("service rm hn")


def test_a_published_port_is_one_services(swarm: Swarm, busybox_image: str) -> None:
    manager = swarm.manager
    manager.docker("service create -d --name p1 --replicas 0 -p 8096:80", busybox_image)
    try:
        refused = manager.run("service create -d -p 8096:81", busybox_image, check=False)
        assert "port '8096' is already in use by service 'p1'" in refused.stderr
        assert "as an ingress port" in refused.stderr
        manager.docker("service update -d --publish-rm 80 --publish-add 90 p1")
        assert manager.docker("service ls --format {{.Ports}}") == "*:30000->90/tcp"
    finally:
        manager.docker("service rm p1")


def test_prune_removes_what_nobody_uses(swarm: Swarm) -> None:
    manager = swarm.manager
    manager.docker("network create -d overlay idle")
    assert "idle" in manager.docker("network prune -f")
    left = manager.docker("network ls --filter scope=swarm --format '{{json .}}'")
    assert [json.loads(line)["Name"] for line in left.splitlines()] == ["ingress"]
