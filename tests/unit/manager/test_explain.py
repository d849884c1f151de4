"""Explanations: sentences that name what is missing, nodes in groups, and bounded answers."""

from __future__ import annotations

from msgspec.structs import replace

from skep.api.resolve import find_task_or_named
from skep.manager.explain import explain_service, explain_task
from skep.manager.scheduler.explain_nodes import GROUPS_MAX, NAMES_MAX, size_text
from skep.manager.scheduler.place import Round
from skep.model.change import NewTask
from skep.model.container import (
    ContainerSpec,
    LogDriver,
    NetworkAttachmentConfig,
    PortConfig,
    Reservation,
    ResourceRequirements,
    RestartPolicy,
)
from skep.model.mesh import not_published
from skep.model.network import Network, NetworkSpec
from skep.model.node import READY as NODE_READY
from skep.model.node import NodeStatus
from skep.model.service import Endpoint, TaskTemplate, UpdateStatus
from skep.model.spec import Placement, PlacementPreference, Platform, SpreadOver, TaskSpec
from skep.model.states import FAILED, READY, RUNNING, SHUTDOWN
from skep.model.task import TaskStatus
from skep.store.view import View
from tests.unit.builders import CPU, GIB, add_node, add_service, add_task, new_ids

NOW = 1_000.0


def place(view: View, count: int, service_id: str = "s", node_id: str = "") -> None:
    """What the reconcile loop does: placed tasks run, the others are pending."""
    new_id = new_ids(len(view.tasks) + 10 * len(view.pending_ids))
    wanted = [
        NewTask(new_id(), service_id, 0 if node_id else n + 1, 1, 0.0, 0.0, node_id) for n in range(count)
    ]
    result = Round(view, NOW).place(wanted)
    for task in result.placed:
        view.put_task(task)
        view.put_status(task, TaskStatus(RUNNING, NOW))
    for pending in result.pending:
        view.put_pending(pending)


def texts(view: View) -> list[str]:
    (pending, *_) = view.pending["s"].values()
    return [group.text for group in explain_task(view, pending, NOW, {}).nodes]


def test_each_filter_says_what_is_missing_and_where() -> None:
    view = View()
    add_node(view, "a", labels={"zone": "b"})
    add_node(view, "b", labels={"zone": "b"})
    add_node(view, "c")
    add_node(view, "d", labels={"zone": "a"}, availability="drain")
    add_node(view, "e", labels={"zone": "a"}, availability="pause")
    add_node(view, "f", labels={"zone": "a"}, state="unknown")
    add_node(view, "g", labels={"zone": "a"})
    view.put_node_status("g", NodeStatus("down", "heartbeat failure"))
    add_service(view, placement=Placement(constraints=["node.labels.zone==a"]))
    place(view, 1)
    assert texts(view) == [
        "2 nodes (host-a, host-b): constraint node.labels.zone==a is not satisfied: zone is b",
        "1 node (host-d): drained",
        "1 node (host-e): paused",
        "1 node (host-f): not heard of yet since this manager leads",
        "1 node (host-g): down (heartbeat failure)",
        "1 node (host-c): constraint node.labels.zone==a is not satisfied: there is no zone",
    ]


def test_resources_are_counted_in_what_users_write() -> None:
    view = View()
    add_node(view, "a", memory_bytes=3 * GIB // 2, cpus=1, generic=["gpu=U1"])
    add_node(view, "b", memory_bytes=GIB // 2, cpus=1, generic=["gpu=U1"])
    add_node(view, "c", memory_bytes=8 * GIB, cpus=8)
    needs = Reservation(nano_cpus=2 * CPU, memory_bytes=2 * GIB)
    resources = ResourceRequirements(reservations=replace(needs, generic_resources=[]))
    add_service(view, task=TaskSpec(container_spec=ContainerSpec(image="x"), resources=resources))
    add_service(view, "g", reserve=["gpu=1"])
    (lacking, *_) = [
        g for g in explain_service(view, view.services["s"], NOW, {}).nodes if g.filter == "resources"
    ]
    assert lacking.text == (
        "2 nodes (host-a, host-b): 2 GiB of memory reserved, 512 MiB and 1.5 GiB free; 2 CPUs reserved, 1 free"
    )
    place(view, 2, "g")
    said = [g.text for g in explain_service(view, view.services["g"], NOW, {}).nodes]
    assert said == [
        "2 nodes (host-a, host-b): 1 gpu reserved, 0 free",
        "1 node (host-c): 1 gpu reserved, there is none",
    ]


def test_ports_plugins_platforms_and_limits() -> None:
    view = View()
    add_node(view, "a", plugins=[("Log", "json-file"), ("Network", "bridge"), ("Network", "overlay")])
    weave = NetworkSpec(name="weave", driver="weave", scope="swarm")
    view.put_network(Network(id="id-weave", spec=weave, created_at=0, updated_at=0))
    port = PortConfig(target_port=80, published_port=8080, publish_mode="host")
    add_service(view, "web", ports=[port])
    place(view, 1, "web")
    add_service(view, "s", ports=[port])
    place(view, 1)
    assert texts(view) == ["1 node (host-a): port 8080/tcp is held by service name-web"]
    (holder,) = view.tasks.values()
    view.put_task(replace(holder, desired_state=SHUTDOWN))
    assert texts(view) == [
        "1 node (host-a): port 8080/tcp is held by service name-web, whose task there is still stopping"
    ]
    container = ContainerSpec(image="x")
    for service_id, spec, text in (
        ("log", TaskSpec(container_spec=container, log_driver=LogDriver(name="gelf")), "no log driver gelf"),
        (
            "net",
            TaskSpec(container_spec=container, networks=[NetworkAttachmentConfig(target="id-weave")]),
            "no network driver weave",
        ),
        (
            "arm",
            TaskSpec(
                container_spec=container,
                placement=Placement(platforms=[Platform(os="linux", architecture="arm64")]),
            ),
            "made for linux/arm64; the platform is linux/x86_64",
        ),
    ):
        add_service(view, service_id, task=spec)
        (group,) = explain_service(view, view.services[service_id], NOW, {}).nodes
        assert group.text == f"1 node (host-a): {text}"
    add_service(view, "max", placement=Placement(max_replicas=1))
    place(view, 1, "max")
    (group,) = explain_service(view, view.services["max"], NOW, {}).nodes
    assert group.text == "1 node (host-a): at most 1 of the service's tasks per node, 1 there already"
    assert group.filter == "max-replicas"


def test_answers_are_bounded() -> None:
    view = View()
    for n in range(100):
        add_node(view, f"n{n:02d}", labels={"rack": f"r{n % 50}"})
    add_service(view, placement=Placement(constraints=["node.labels.rack==x"]))
    place(view, 40)
    said = explain_service(view, view.services["s"], NOW, {})
    assert len(said.nodes) == GROUPS_MAX
    assert sum(group.count for group in said.nodes) == 100
    assert said.nodes[-1].text == "42 nodes: refused for 21 other reasons"
    assert "name-s.10 and 30 more" in said.sentences[1]
    add_service(view)
    (group,) = explain_service(view, view.services["s"], NOW, {}).nodes
    assert (group.count, len(group.nodes)) == (100, NAMES_MAX)
    assert group.text.endswith("host-n04 and 95 more): free to take it")


def test_a_running_task_is_explained_by_levels_and_counts() -> None:
    view = View()
    for node_id, zone in (("a", "x"), ("b", "x"), ("c", "y"), ("d", "")):
        add_node(view, node_id, labels={"zone": zone} if zone else {})
    preference = PlacementPreference(spread=SpreadOver(spread_descriptor="node.labels.zone"))
    add_service(view, placement=Placement(preferences=[preference], constraints=["node.hostname!=host-d"]))
    add_service(view, "other")
    add_task(view, "o", "a", service_id="other")
    place(view, 4)
    (task,) = [t for t in view.tasks_of_node("a") if t.service_id == "s"]
    assert explain_task(view, task, NOW, {("s", "b"): 5, ("s", "c"): 4}).sentences == [
        "It runs on host-a since 1970-01-01 00:16:40 UTC (0 s ago).",
        "Spread over node.labels.zone: node.labels.zone x has 2 of the service's tasks (y: 2).",
        "As it is now, the node has 1 of the service's tasks and 2 tasks in all; the other node that suits has 1"
        " of the service's.",
        "Taken only if nothing else suits, as its tasks failed there lately: host-b.",
    ]


def test_of_a_task_from_before_this_leader_nobody_says_that_its_node_has_not_taken_it() -> None:
    view = View()
    add_node(view, "a")
    add_service(view)
    task = add_task(view, "t", "a", observed=None)
    (said, *_) = explain_task(view, task, NOW, {}).sentences
    assert said.endswith("which has not answered yet.")
    view.led_since = task.updated_at + 1.0
    (said, *_) = explain_task(view, task, NOW, {}).sentences
    assert said.endswith("; host-a has not come to this leader yet: nobody can say what it does.")


def test_what_a_task_waits_for() -> None:
    view = View()
    add_node(view, "a")
    add_node(view, "b")
    service = add_service(view, policy=RestartPolicy(condition="on-failure", max_attempts=2))
    old = add_task(view, "old", "a", desired=SHUTDOWN)
    new = add_task(view, "new", "b", desired=READY, observed=READY, at=1.0)
    assert "It waits until task old, which is stopping on host-a, has stopped." in " ".join(
        explain_task(view, new, NOW, {}).sentences
    )
    assert explain_task(view, old, NOW, {}).sentences[1] == "It is to stop: task new takes its place."
    view.put_task(replace(old, result=TaskStatus(FAILED, 990.0, error="task: non-zero exit (7)")))
    delayed = replace(new, run_at=NOW + 4.25)
    view.put_task(delayed)
    said = explain_service(view, service, NOW, {})
    assert said.sentences[0] == "0 of 1 replicas run."
    assert "name-s.1 failed on host-a 10 s ago: task: non-zero exit (7)" in said.sentences
    assert "in 4.2 s: the restart delay" in " ".join(said.tasks[0].sentences)
    view.put_node_status("b", NodeStatus("down"))
    (sentence,) = explain_task(view, delayed, NOW, {}).sentences[:1]
    assert sentence == "Its node host-b is down: nobody can say what it does."
    view.drop_task(delayed)
    (ended,) = view.tasks.values()
    assert explain_task(view, ended, NOW, {}).sentences[-1] == (
        "Nothing has followed it: the restart policy is on-failure, at most 2 times."
    )


def test_a_paused_update_is_named_with_its_cause() -> None:
    view = View()
    add_node(view, "a")
    service = add_service(view, replicas=2)
    place(view, 2)
    update = UpdateStatus(state="paused", started_at=10.0, message="update paused due to failure of task x")
    newer = TaskTemplate(version=2, spec=service.template.spec)
    service = replace(service, templates=[service.template, newer], update=update)
    view.put_service(service)
    said = explain_service(view, service, NOW, {})
    assert any("paused due to failure of task x" in each for each in said.sentences)
    assert "0 of 2 tasks are of the current version." in said.sentences
    task = next(iter(view.tasks.values()))
    assert any(
        "stays so: update paused due to" in each for each in explain_task(view, task, NOW, {}).sentences
    )


def test_a_global_services_task_is_for_its_node_alone_and_found_by_it() -> None:
    view = View()
    add_node(view, "a")
    add_node(view, "b", availability="pause")
    add_service(view, replicas=None)
    place(view, 1, node_id="b")
    place(view, 1, node_id="a")
    pending = find_task_or_named(view, "name-s.host-b")
    said = explain_task(view, pending, NOW, {})
    assert [group.text for group in said.nodes] == ["1 node (host-b): paused"]
    assert said.name == "name-s.host-b"
    running = find_task_or_named(view, "name-s.a")
    assert (
        "A global service has one task on each node that suits."
        in explain_task(view, running, NOW, {}).sentences
    )
    assert find_task_or_named(view, f"name-s.a.{running.id}") is running
    assert find_task_or_named(view, running.id[:12]) is running


def test_sizes_are_said_as_docker_does() -> None:
    assert [size_text(n) for n in (0, -5, 512 << 20, 3 * GIB // 2, 4096)] == [
        "0 MiB",
        "0 MiB",
        "512 MiB",
        "1.5 GiB",
        "4 KiB",
    ]


def test_where_published_ports_do_not_answer_is_said() -> None:
    view = View()
    port = PortConfig(protocol="tcp", target_port=80, published_port=9090, publish_mode="ingress")
    service = replace(add_service(view, "s", ports=[port]), endpoint=Endpoint(ports=[port]))
    view.put_service(service)
    taken = f"{not_published(9090, 'tcp', service.spec.name)}: it is taken by nginx (process 7)"
    others = f"{not_published(81, 'tcp', 'other')}: it is taken by nginx (process 7)"
    for number in range(9):
        add_node(view, f"n{number}")
        view.put_node_status(f"n{number}", NodeStatus(NODE_READY, mesh=(taken, others)))
    view.put_node_status("n0", NodeStatus(NODE_READY, mesh=("the library is missing",)))
    said = [each for each in explain_service(view, service, NOW, {}).sentences if "ports" in each]
    head = "Published ports do not answer everywhere."
    assert said == [
        f"{head} 8 nodes (host-n1, host-n2, host-n3, host-n4, host-n5 and 3 more): {taken}.",
        f"{head} 1 node (host-n0): the library is missing.",
    ]
    hosts = replace(port, publish_mode="host")
    view.put_service(service := replace(service, endpoint=Endpoint(ports=[hosts])))
    assert not any(head in each for each in explain_service(view, service, NOW, {}).sentences)
