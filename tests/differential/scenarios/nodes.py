"""`docker node …` and /nodes."""

from __future__ import annotations

from tests.differential.scenario import Py, Update, delete, get, post, scenario, settle

FORMAT = "{{.ID}} {{.Self}} {{.Hostname}} {{.Status}} {{.Availability}} {{.ManagerStatus}} {{.TLSStatus}} {{.EngineVersion}}"
SERVICE = "service create -d --no-resolve-image --stop-signal KILL --name web --replicas 2 $IMAGE sleep 1d"

SCENARIOS = [
    scenario("node ls", "node ls", "node ls -q", f"node ls --format '{FORMAT}'", "node ls --format json"),
    scenario(
        "node ls filtered",
        *(
            f"node ls -q --filter {text}"
            for text in (
                *("role=manager", "role=worker", "name=nobody", "role=Manager"),
                *("id=nobody", "label=x", "node.label=x", "role=x", "color=x"),
            )
        ),
    ),
    scenario(
        "nodes filtered by membership",
        "node update --availability active $NODE",
        "node ls -q --filter membership=accepted",
        "node ls -q --filter membership=Accepted",
        "node ls -q --filter membership=pending",
        "node ls -q --filter membership=x",
    ),
    scenario(
        "nodes filtered by the API",
        get('/nodes?filters={"role":["manager"]}'),
        get('/nodes?filters={"role":{"worker":true}}'),
        get('/nodes?filters={"nothing":["x"]}'),
        get("/nodes?filters={"),
        get("/nodes?filters=x"),
    ),
    scenario(
        "node inspect",
        "node inspect $NODE",
        "node inspect --pretty $NODE",
        "node inspect -f {{.Spec.Role}} $NODE",
    ),
    scenario(
        "a node by the API",
        get("/nodes/$NODE"),
        get("/nodes"),
        get("/nodes/nobody"),
        get("/nodes/self"),
        delete("/nodes/self"),
    ),
    scenario(
        "node labels",
        "node update --label-add disk=fast --label-add zone=a $NODE",
        "node inspect -f '{{json .Spec}}' $NODE",
        "node ls -q --filter node.label=disk=fast",
        "node ls -q --filter node.label=disk=slow",
        "node ls -q --filter node.label=disk",
        "node ls -q --filter node.label=zone",
        "node ls -q --filter label=disk",
        "node update --label-rm zone --label-rm nothing $NODE",
        "node update --label-rm disk $NODE",
        "node inspect -f '{{json .Spec}}' $NODE",
        "node update --label-add =x $NODE",
    ),
    scenario(
        "node availability",
        "node update --availability pause $NODE",
        "node ls",
        "node update --availability drain $NODE",
        "node ls --format {{.Availability}}",
        "node update --availability sideways $NODE",
        "node update --availability active $NODE",
        "node inspect --pretty -f {{.Spec.Availability}} $NODE",
    ),
    scenario(
        "node roles",
        "node demote $NODE",
        "node update --role worker $NODE",
        "node promote $NODE",
        "node update --role king $NODE",
        "node promote nobody",
        "node demote nobody",
    ),
    scenario(
        "node rm",
        "node rm $NODE",
        "node rm -f $NODE",
        "node rm nobody",
        "node rm -f nobody",
        delete("/nodes/$NODE"),
        delete("/nodes/nobody"),
    ),
    scenario(
        "nodes that are not there",
        "node inspect nobody",
        "node inspect --pretty nobody",
        "node ps nobody",
        "node update --availability drain nobody",
        "node inspect $NODE nobody",
    ),
    scenario(
        "nodes updated by the API",
        Update("/nodes/$NODE", {"Labels": {"a": "b"}}),
        get("/nodes/$NODE", "Spec"),
        Update("/nodes/$NODE", {"Name": "named"}),
        get("/nodes/$NODE", "Spec"),
        Update("/nodes/$NODE", {"Name": None, "Labels": {"a": None}}),
        Update("/nodes/$NODE", {"Role": "king"}),
        Update("/nodes/$NODE", {"Availability": "sideways"}),
        Update("/nodes/$NODE", {"Role": "worker"}),
        Update("/nodes/$NODE", {"Role": None}),
        Update("/nodes/$NODE", {"Role": "manager", "Availability": None}),
        post("/nodes/$NODE/update", {}),
        post("/nodes/$NODE/update?version=x", {}),
        post("/nodes/$NODE/update?version=1", {"Role": "manager", "Availability": "active"}),
        post("/nodes/nobody/update?version=1", {"Role": "manager", "Availability": "active"}),
        Update("/nodes/$NODE", {"Availability": "active", "Role": "manager"}),
        get("/nodes/$NODE", "Spec"),
    ),
    scenario(
        "node ps",
        "node ps",
        SERVICE,
        settle("web", running=2),
        "node ps --filter name=web",
        "node ps --filter name=web --format '{{.Name}} {{.DesiredState}} {{.Image}} {{.Node}} {{.Error}}{{.Ports}}'",
        "node ps --filter name=web.1 --no-trunc",
        "node ps -q --filter name=web",
        "node ps $NODE --filter desired-state=shutdown",
        "node ps $NODE --filter color=red",
        "node ps --filter name=web --no-resolve",
    ),
    scenario(
        "docker-py's nodes",
        Py("nodes.list()", lambda client: [node.attrs for node in client.nodes.list()]),
        Py(
            "nodes.list(role)",
            lambda client: [n.attrs["Spec"] for n in client.nodes.list({"role": "manager"})],
        ),
        Py("nodes.list(bad)", lambda client: client.nodes.list({"color": "red"})),
        Py("nodes.get()", lambda client: client.nodes.get(client.info()["Swarm"]["NodeID"]).version > 0),
        Py("nodes.get(none)", lambda client: client.nodes.get("nobody")),
        Py(
            "node.update()",
            lambda client: client.nodes.list()[0].update(
                {"Availability": "active", "Role": "manager", "Labels": {"by": "py"}}
            ),
        ),
        Py("labels", lambda client: client.nodes.list()[0].attrs["Spec"]),
        Py(
            "undone",
            lambda client: client.nodes.list()[0].update({"Availability": "active", "Role": "manager"}),
        ),
        Py("remove_node()", lambda client: client.api.remove_node(client.info()["Swarm"]["NodeID"])),
    ),
]
