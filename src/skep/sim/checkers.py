"""What must never be, and what must be in the end."""

from __future__ import annotations

from collections import Counter

from skep.manager import quorum
from skep.manager.leader import Leader
from skep.manager.orchestrator.restart import history_limit, may_restart
from skep.manager.orchestrator.updater import UNDER_WAY
from skep.model.constraint import eligible
from skep.model.generic import Claim
from skep.model.states import COMPLETE, FAILED, RUNNING, is_terminal
from skep.model.task import Task
from skep.sim.addresses import no_address_is_given_twice, no_port_is_published_twice, unaddressed
from skep.sim.history import History
from skep.sim.picture import Picture, running_on
from skep.sim.secrets_checker import SecretsChecker, what_is_held_otherwise
from skep.sim.specs import fails
from skep.sim.updates import Updating, is_live
from skep.sim.violation import Violation
from skep.sim.workload import value_of
from skep.sim.world import World
from skep.store.demand import host_ports
from skep.store.election import SILENCE_S
from skep.store.view import SlotKey, View, slot_key

HISTORY_SLACK = 3  # the live task, its successor, and one that is being ended, beyond the limit


class Never:
    """Compares each moment with the one before."""

    def __init__(self, world: World, history: History, troubled: dict[str, float]) -> None:
        self._world = world
        self._history = history
        self._troubled = troubled  # host -> when its last incident ended (inf: not yet)
        self._updating = Updating(world, troubled)
        self._holding = SecretsChecker(world, troubled)
        self._before: Picture | None = None
        self._ran: dict[str, str] = {}

    def check(self, picture: Picture, now: float) -> None:
        """Errors: `Violation`."""
        if self._world.etcd.wrong:
            raise Violation(self._world.etcd.wrong[0])
        running = running_on(self._world.hosts.values())
        self._updating.saw_running(running.keys())
        if self._before is None or self._before.revision != picture.revision:
            self._nothing_acknowledged_is_lost(picture)
            self._no_port_is_given_twice(picture)
            self._no_device_is_given_twice(picture)
            no_address_is_given_twice(picture)
            no_port_is_published_twice(picture)
            self._history_is_bounded(picture)
            self._updating.check(picture, now)
            if self._before is not None:
                self._tasks_only_move_forward(self._before, picture)
                self._no_completion_is_lost(self._before, picture)
        self._nothing_stops_without_a_reason(picture, running)
        self._no_slot_runs_twice(picture, running, now)
        self._no_job_does_more_at_once(picture, running, now)
        self._holding.check(picture, now)
        self._counts_are_counts(self._world.leader())
        self._one_leads(now)
        self._nothing_fails_in_silence(self._world.leader())
        self._before, self._ran = picture, running

    def _tasks_only_move_forward(self, before: Picture, after: Picture) -> None:
        for task_id, old in before.tasks.items():
            new = after.tasks.get(task_id)
            if new is None:
                continue
            if (new.node_id, new.service_id, slot_key(new)) != (old.node_id, old.service_id, slot_key(old)):
                raise Violation(f"task {task_id} moved from {old.node_id} to {new.node_id}")
            if new.desired_state < old.desired_state:
                raise Violation(f"the desired state of task {task_id} went down")
            if old.result is not None and new.result != old.result:
                raise Violation(f"the result of task {task_id} changed")

    def _nothing_fails_in_silence(self, leader: Leader | None) -> None:
        """What is contained, for one node, is a mistake all the same."""
        if leader is not None and leader.sessions.failures:
            raise Violation("the leader failed over what a node said, or over its silence: -v shows where")
        for aside in leader.view.asides.values() if leader is not None else ():
            raise Violation(f"the leader has set {aside.kind} {aside.id} aside: {aside.reason}")

    def _no_completion_is_lost(self, before: Picture, after: Picture) -> None:
        """What a job has done stays done, until it is run again."""
        done = _completions(after)
        for (service_id, version), slots in _completions(before).items():
            service = after.services.get(service_id)
            if service is None or service.template.version != version:
                continue
            lost = slots - done.get((service_id, version), set())
            lost = {key for key in lost if isinstance(key, int) or key in after.nodes}
            if lost:
                raise Violation(f"what slots {lost} of job {service.spec.name} completed is lost")

    def _no_job_does_more_at_once(self, picture: Picture, running: dict[str, str], now: float) -> None:
        """On machines that have been well for a while; see `_no_slot_runs_twice`."""
        counts: Counter[str] = Counter()
        for task_id, host in running.items():
            task = picture.tasks.get(task_id)
            if task is None or now - self._troubled.get(host, 0.0) < 60:
                continue
            service = picture.services.get(task.service_id)
            job = None if service is None else service.spec.mode.replicated_job
            if service is None or job is None or task.spec_version != service.template.version:
                continue
            counts[service.id] += 1
            if counts[service.id] > (job.max_concurrent or 0):
                raise Violation(f"job {service.spec.name} runs more than {job.max_concurrent} tasks at once")

    def _nothing_acknowledged_is_lost(self, picture: Picture) -> None:
        found = {f"service {s.spec.name}": value_of(s.spec) for s in picture.services.values()}
        found.update((f"node {node.id}", value_of(node.spec)) for node in picture.nodes.values())
        wrong = self._history.find_wrong(found)
        if wrong:
            raise Violation(wrong)

    def _no_port_is_given_twice(self, picture: Picture) -> None:
        """On one node, among tasks that are to run and have not ended."""
        holders: dict[tuple[str, str, int], str] = {}
        for task in picture.tasks.values():
            service = picture.services.get(task.service_id)
            if service is None or task.desired_state > RUNNING or task.result is not None:
                continue
            for protocol, port in host_ports(service.template_of(task.spec_version)):
                other = holders.setdefault((task.node_id, protocol, port), task.id)
                if other != task.id:
                    raise Violation(f"port {port} of {task.node_id} is given to {other} and {task.id}")

    def _no_device_is_given_twice(self, picture: Picture) -> None:
        """On one node, among tasks that are to run and have not ended, each name of a kind is one task's."""
        holders: dict[tuple[str, Claim], str] = {}
        for task in picture.tasks.values():
            if task.desired_state > RUNNING or task.result is not None:
                continue
            for claim in task.generic:
                other = holders.setdefault((task.node_id, claim), task.id)
                if other != task.id:
                    raise Violation(f"{claim} of {task.node_id} is given to {other} and {task.id}")

    def _nothing_stops_without_a_reason(self, picture: Picture, running: dict[str, str]) -> None:
        """A container that ran and does not any more: it failed, its machine did, or the store says stop."""
        hosts = {host.name: host for host in self._world.hosts.values()}
        for task_id, host in self._ran.items():
            if task_id in running:
                continue
            task = picture.tasks.get(task_id)
            executor = hosts[host].executor
            state = executor.state_of(task_id)
            # What the machine has lost may be made anew by now.
            machine_lost = (state is None or state < RUNNING) and self._troubled.get(host) is not None
            if state in (COMPLETE, FAILED) or machine_lost or task is None or task.desired_state > RUNNING:
                continue
            if task.service_id not in picture.removed:
                raise Violation(f"task {task_id} on {host} was stopped although it is wanted")

    def _no_slot_runs_twice(self, picture: Picture, running: dict[str, str], now: float) -> None:
        """On machines that have been well for a while, one container per slot; where an update may start what
        is new first, one of each version beside those that are being ended."""
        seen: dict[tuple[str, SlotKey, int], str] = {}
        for task_id, host in running.items():
            task = picture.tasks.get(task_id)
            if task is None or now - self._troubled.get(host, 0.0) < 60:
                continue
            first = self._updating.may_start_first(task.service_id)
            is_removed = task.service_id not in picture.services
            if first and task.desired_state > RUNNING and (is_removed or self._updating.was_ended(task_id)):
                continue
            version = task.spec_version if first else 0
            key = (task.service_id, slot_key(task), version)
            if key in seen:
                raise Violation(f"slot {key} runs twice: {seen[key]} and {task_id} on {host}")
            seen[key] = task_id

    def _history_is_bounded(self, picture: Picture) -> None:
        most = 5 if picture.cluster is None else picture.cluster.spec.history_limit
        for (service_id, key), tasks in picture.slots.items():
            service = picture.services.get(service_id)
            if service is None:
                continue
            limit = history_limit(service.template.spec.restart_policy, most)
            slack = HISTORY_SLACK + sum(is_live(task) for task in tasks[:-1])
            if len(tasks) > limit + slack:
                raise Violation(f"slot {key} of {service.spec.name} has {len(tasks)} tasks, not {limit}")

    def _counts_are_counts(self, leader: Leader | None) -> None:
        below = [] if leader is None else [s for s, n in leader.view.running.items() if n < 0]
        if below:
            raise Violation(f"the leader counts fewer than no running tasks of {below}")

    def _one_leads(self, now: float) -> None:
        """Several may believe that they lead, but only one is sure of it: it answers what users ask."""
        sure = [host.name for host in self._world.believers() if host.leader and host.leader.is_sure]
        if len(sure) > 1 and now > self._world.deposed_at + SILENCE_S:
            raise Violation(f"{sure} are all sure that they lead")


def what_is_missing(picture: Picture, world: World) -> str:
    """Returns what keeps the cluster from being as wanted; an empty text when it is."""
    leader = world.leader()
    if leader is None:
        return "there is no leader"
    if len(world.believers()) > 1:
        return f"several believe that they lead: {[host.name for host in world.believers()]}"
    members = _members_differ(picture, world, leader)
    if members:
        return members
    said = {host.node_id: host.executor.description for host in world.present()}
    unknown = [node.id for node in picture.nodes.values() if node.description != said.get(node.id)]
    if unknown:
        return f"these nodes are not as they say that they are: {unknown}"
    if leader.view.pending:
        return "tasks are pending"
    if picture.removed:
        return f"removed services are still there: {sorted(picture.removed)}"
    unfinished = _unfinished_update(picture)
    if unfinished:
        return unfinished
    wanted = _wanted_slots(picture)
    found: Counter[tuple[str, SlotKey]] = Counter()
    for task_id, host in running_on(world.hosts.values()).items():
        task = picture.tasks.get(task_id)
        if task is None or task.desired_state != RUNNING:
            return f"a leftover runs on {host}: {task_id}"
        service = picture.services[task.service_id]
        newest, version = picture.slots[task.service_id, slot_key(task)][-1], service.template.version
        # Where what was to run first has failed for good, what was to be replaced by it runs on.
        if task.spec_version != version and (is_live(newest) or newest.spec_version != version):
            return f"task {task_id} of {service.spec.name} runs an old version"
        found[task.service_id, slot_key(task)] += 1
    for service_id, slots in wanted.items():
        for key in slots:
            if found.pop((service_id, key), 0) != 1 and not _has_given_up(picture, service_id, key):
                return f"slot {key} of {picture.services[service_id].spec.name} does not run"
    otherwise = unaddressed(picture) or what_is_held_otherwise(picture, world)
    if otherwise:
        return otherwise
    replicated = _replicated_counts(picture, found)
    return replicated or _jobs_to_do(picture) or _view_differs(leader.view, picture)


def _members_differ(picture: Picture, world: World, leader: Leader) -> str:
    """Managers are the voters, and the leader has nothing to change."""
    wanted = {node.id for node in picture.nodes.values() if node.spec.role == "manager"}
    voting = {peer.node_id for peer in world.etcd.voters()}
    if wanted != voting or len(voting) != len(world.etcd.members):
        return f"managers are to be {sorted(wanted)}, etcd has {sorted(voting)} and learners"
    idle = [host.name for host in world.present() if (host.leader_id == "") == (host.node_id in wanted)]
    if idle:
        return f"these follow no leader although managers, or do although workers: {idle}"
    step = quorum.decide(leader.view, leader.node_id, {})
    return "" if step.act is quorum.Act.NOTHING and not step.why_not else f"the leader is to {step}"


def _unfinished_update(picture: Picture) -> str:
    """Each update comes to an end, and users do not leave their services in one that is paused."""
    for service in picture.services.values():
        state = "" if service.update is None else service.update.state
        if state in UNDER_WAY:
            return f"the update of {service.spec.name} is still {state}"
        if state in ("paused", "rollback_paused") or (fails(service.spec) and not service.spec.is_job):
            return f"nobody has repaired {service.spec.name}"
    return ""


def _has_given_up(picture: Picture, service_id: str, key: SlotKey) -> bool:
    """True for a slot whose restart policy lets nothing follow what ended."""
    tasks, service = picture.slots.get((service_id, key), []), picture.services[service_id]
    if not tasks or any(is_live(task) for task in tasks):
        return False
    policy = service.template_of(tasks[-1].spec_version).spec.restart_policy
    return not may_restart(policy, tasks[-1], tasks, tasks[-1].updated_at)


def _wanted_slots(picture: Picture) -> dict[str, list[str]]:
    """Returns the nodes each global service is to run on."""
    return {
        service.id: [
            node.id
            for node in picture.nodes.values()
            if node.spec.availability == "active" and eligible(node, service.template.spec.placement)
        ]
        for service in picture.services.values()
        if service.spec.mode.global_ is not None
    }


def _replicated_counts(picture: Picture, found: Counter[tuple[str, SlotKey]]) -> str:
    counts: Counter[str] = Counter()
    for (service_id, key), count in found.items():
        if count != 1:
            return f"slot {key} of {service_id} runs {count} times"
        counts[service_id] += 1
    for service_id, key in picture.slots:
        service = picture.services.get(service_id)
        if service is not None and service.spec.replicas is not None and (service_id, key) not in found:
            counts[service_id] += _has_given_up(picture, service_id, key)
    for service in picture.services.values():
        if service.spec.is_job:
            counts.pop(service.id, None)  # what still runs is seen by its completion that is missing
        elif service.spec.mode.global_ is None and counts.pop(service.id, 0) != service.spec.replicas:
            return f"{service.spec.name} has not the {service.spec.replicas} replicas it should have"
    return f"containers of unknown services run: {sorted(counts)}" if counts else ""


def _completions(picture: Picture) -> dict[tuple[str, int], set[SlotKey]]:
    """Returns which slots of each job's iterations are complete."""
    found: dict[tuple[str, int], set[SlotKey]] = {}
    for task in picture.tasks.values():
        service = picture.services.get(task.service_id)
        if service is None or not service.spec.is_job or task.result is None:
            continue
        if task.result.state == COMPLETE:
            found.setdefault((service.id, task.spec_version), set()).add(slot_key(task))
    return found


def _jobs_to_do(picture: Picture) -> str:
    done = _completions(picture)
    for service in picture.services.values():
        job = service.spec.mode.replicated_job
        if job is None:
            continue
        slots = done.get((service.id, service.template.version), set())
        if slots != set(range(1, (job.total_completions or 0) + 1)):
            return f"of job {service.spec.name} only {sorted(map(str, slots))} are complete"
    return ""


def _view_differs(view: View, picture: Picture) -> str:
    """The leader's counters against the same counted from scratch."""
    if set(view.tasks) != set(picture.tasks):
        return "the leader's tasks are not the store's"
    running: Counter[str] = Counter()
    live: Counter[tuple[str, str]] = Counter()
    held: Counter[str] = Counter()
    for task in view.tasks.values():
        status = view.status_of(task)
        if status is not None and is_terminal(status.state):
            continue
        held[task.node_id] += 1
        if task.desired_state <= RUNNING:
            live[task.service_id, task.node_id] += 1
            if status is not None and status.state == RUNNING:
                running[task.service_id] += 1
    completed = Counter((t.service_id, t.spec_version) for t in view.tasks.values() if _succeeded(view, t))
    if {(s, v): n for s, versions in view.completed.items() for v, n in versions.items()} != completed:
        return "the leader's counts of completed tasks are not what there are"
    counted = {k: n for k, n in view.running.items() if n}
    if counted != dict(running):
        return f"the leader counts {counted} running, there are {dict(running)}"
    if {n: u.tasks for n, u in view.usage.items() if u.tasks} != dict(held):
        return "the leader's usage of nodes is not the sum of their tasks"
    flat = {(s, n): c for s, nodes in view.live.items() for n, c in nodes.items()}
    return "" if flat == dict(live) else "the leader's live counts are not the sum of the tasks"


def _succeeded(view: View, task: Task) -> bool:
    status = view.status_of(task)
    return status is not None and status.state == COMPLETE
