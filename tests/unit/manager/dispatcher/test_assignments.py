"""What a node is told of its tasks."""

from __future__ import annotations

from msgspec.structs import replace

from skep.manager.dispatcher.assignments import (
    PRUNE_MIN,
    Sent,
    as_before,
    complete,
    difference,
    frames,
    task_network,
)
from skep.model.cluster import TaskDefaults
from skep.model.container import ContainerSpec, LogDriver, NetworkAttachmentConfig
from skep.model.service import RegistryAuth, TaskTemplate
from skep.model.spec import TaskSpec
from skep.model.states import FAILED, RUNNING
from skep.model.task import Task, TaskStatus
from skep.rpc.interfaces import FRAME_MAX_BYTES
from skep.rpc.messages import Assign, decode_from_manager, encode
from skep.store.view import View
from tests.unit.builders import add_cluster, add_node, add_service, add_task
from tests.unit.overlays import NET, add_on_net, overlay_view


def test_a_template_is_sent_once_per_session() -> None:
    view = View()
    add_node(view, "a")
    add_service(view)
    sent = Sent()
    first = add_task(view, "t1", "a", 1, observed=None)
    assert len(complete(view, "a", sent).templates) == 1
    second = add_task(view, "t2", "a", 2, observed=None)
    told = difference(view, "a", [first, second], [], sent)
    assert told is not None
    assert (told.templates, [task.id for task in told.tasks]) == ([], ["t1", "t2"])


def test_a_new_session_gets_the_templates_again() -> None:
    view = View()
    add_node(view, "a")
    add_service(view)
    add_task(view, "t1", "a", 1, observed=RUNNING)
    assert len(complete(view, "a", Sent()).templates) == 1
    assert len(complete(view, "a", Sent()).templates) == 1


def test_a_node_of_an_earlier_skep_is_to_have_no_bridge_of_its_own_for_a_network() -> None:
    """It would take it away: it knows what the routing mesh's is for, and nothing of others."""
    view = overlay_view("a")
    add_on_net(view, "t1", "a", 1)
    service = view.services["s"]
    template = replace(service.template, networks=[NetworkAttachmentConfig(target="net")])
    view.put_service(replace(service, templates=[template]))
    (now,) = complete(view, "a", Sent()).templates
    (before,) = complete(view, "a", Sent(has_overlays=False)).templates
    assert ([n.bridge for n in now.networks], [n.bridge for n in before.networks]) == (["skb4098"], [""])
    mesh = task_network(replace(NET, spec=replace(NET.spec, ingress=True)), [], {})
    view.put_network(replace(NET, spec=replace(NET.spec, ingress=True)))
    assert as_before(mesh, view).bridge == "skb4098"


def test_a_task_whose_end_was_only_heard_of_is_not_assigned_again() -> None:
    """Found by the simulation's seed 45: the node had lost power since, and began it anew."""
    view = View()
    add_node(view, "a")
    add_service(view)
    add_task(view, "t1", "a", 1, observed=FAILED)
    told = complete(view, "a", Sent())
    assert (told.tasks, told.kept) == ([], ["t1"])


def test_unused_templates_are_given_up_together() -> None:
    """A service that is updated for ever does not fill the node's memory."""
    view = View()
    add_node(view, "a")
    service = add_service(view)
    sent = Sent()
    task: Task | None = None
    outdated: list[tuple[str, int]] = []
    for version in range(1, PRUNE_MIN + 1):
        template = TaskTemplate(version=version, spec=service.template.spec)
        view.put_service(replace(service, templates=[template], version=version))
        if task is not None:
            view.drop_task(task)
        task = add_task(view, f"t{version}", "a", 1, version=version, observed=None)
        told = difference(view, "a", [task], [], sent)
        assert told is not None
        outdated += told.outdated
    assert outdated == [("s", version) for version in range(1, PRUNE_MIN)]
    assert list(sent.keys) == [("s", PRUNE_MIN)]


def test_what_the_node_knows_already_is_not_told() -> None:
    view = View()
    add_node(view, "a")
    add_service(view)
    task = add_task(view, "t1", "a", 1, observed=None)
    ended = replace(task, result=TaskStatus(FAILED, 1.0))
    assert difference(view, "a", [ended], [], Sent()) is None


def test_the_swarms_defaults_come_with_the_first_tasks_that_need_them() -> None:
    view = View()
    add_node(view, "a")
    add_service(view)
    add_cluster(view)
    sent = Sent()
    first = add_task(view, "t1", "a", 1, observed=None)
    assert complete(view, "a", sent).defaults == TaskDefaults()
    told = difference(view, "a", [first], [], sent)
    assert told is not None
    assert told.defaults is None
    changed = TaskDefaults(log_driver=LogDriver(name="local"))
    assert view.cluster is not None
    view.put_cluster(replace(view.cluster, spec=replace(view.cluster.spec, task_defaults=changed)))
    for expected in (changed, None):
        told = difference(view, "a", [first], [], sent)
        assert told is not None
        assert told.defaults == expected


def add_large(view: View, count: int) -> list[Task]:
    """Services with an environment as large as the API takes it, and two tasks each."""
    env = ["A=" + "x" * 6_500_000]
    tasks = []
    for n in range(count):
        add_service(view, f"s{n}", task=TaskSpec(container_spec=ContainerSpec(image="x", env=env)))
        tasks += [add_task(view, f"t{n}.{i}", "a", i, service_id=f"s{n}", observed=None) for i in (1, 2)]
    return tasks


def sent_as(assign: Assign) -> list[Assign]:
    """Returns what an agent gets."""
    found = frames(assign)
    assert all(len(frame) <= FRAME_MAX_BYTES for frame in found)
    told = [decode_from_manager(frame) for frame in found]
    assert all(isinstance(each, Assign) for each in told)
    return told  # type: ignore[return-value]


def test_templates_that_one_frame_cannot_have_go_ahead() -> None:
    """The node could never register: its agent ends a connection that announces such a frame."""
    view = View()
    add_node(view, "a")
    add_cluster(view)
    tasks = add_large(view, 3)
    for whole in (complete(view, "a", Sent()), difference(view, "a", tasks, [], Sent())):
        assert whole is not None
        assert len(encode(whole)) > FRAME_MAX_BYTES
        *ahead, last = sent_as(whole)
        assert last == replace(whole, templates=[])
        assert [template for each in ahead for template in each.templates] == whole.templates
        for each in ahead:
            keys = [(task.service_id, task.spec_version) for task in each.tasks]
            assert keys == [(template.service_id, template.version) for template in each.templates]
            assert all(task in last.tasks for task in each.tasks)
            assert (each.complete, each.defaults) == (False, TaskDefaults()), "its tasks begin at once"


def test_what_one_frame_can_have_is_one() -> None:
    view = View()
    add_node(view, "a")
    add_large(view, 2)
    whole = complete(view, "a", Sent())
    assert frames(whole) == [encode(whole)]
    assert frames(Assign(dropped=["t"])) == [encode(Assign(dropped=["t"]))]


def test_changed_credentials_are_told_with_the_next_task_and_never_shown() -> None:
    view = View()
    add_node(view, "a")
    service = add_service(view)
    sent = Sent()
    first = add_task(view, "t1", "a", 1, observed=None)
    assert complete(view, "a", sent).templates[0].registry_auth is None
    view.put_service(replace(service, registry_auth=RegistryAuth("word"), version=2))
    told = difference(view, "a", [first], [], sent)
    assert told is not None
    assert [t.registry_auth for t in told.templates] == [RegistryAuth("word")]
    assert "word" not in repr(told) + repr(view.services)
    again = difference(view, "a", [first], [], sent)
    assert again is not None
    assert again.templates == []
