"""The table of bounds: it adds up, what is largest fits, and who asks for more is told how much."""

from __future__ import annotations

import asyncio
import random

import pytest
from msgspec.structs import replace

from skep.manager.control.validate import validate_service
from skep.manager.control.validate_network import validate_network
from skep.manager.control.validate_size import check_replicas
from skep.manager.orchestrator.slot import decide_slot
from skep.manager.scheduler.place import Round
from skep.model import bounds
from skep.model.bounds import (
    BUCKET_MAX_BYTES,
    COMPLETIONS_MAX,
    KIB,
    MIB,
    NETWORK_MAX_BYTES,
    SERVICE_NETWORKS_MAX,
    SERVICE_SPEC_MAX_BYTES,
    STATUS_ERROR_MAX_BYTES,
    STATUS_MESSAGE_MAX_BYTES,
    TASK_ADDRESS_BYTES,
    TASK_BYTES,
    TXN_CUT_BYTES,
    TXN_MAX_BYTES,
)
from skep.model.change import DropTask, NewTask
from skep.model.container import ContainerSpec, NetworkAttachmentConfig
from skep.model.network import NetworkSpec
from skep.model.service import RemovedService
from skep.model.spec import Placement, ReplicatedMode, ServiceMode, ServiceSpec, TaskSpec
from skep.model.states import COMPLETE, FAILED, RUNNING, SHUTDOWN
from skep.model.task import Task, TaskAddress, TaskStatus
from skep.runtime.errors import Conflict, Invalid, OutcomeUnknown, TooLarge
from skep.runtime.ids import id_source
from skep.store import codec
from skep.store.bounded import BoundedStore
from skep.store.buckets import fitted
from skep.store.interfaces import Compare, Delete, Put, Txn
from skep.store.memory import MemoryState, MemoryStore
from skep.store.sizes import cut, op_bytes
from skep.store.view import View
from tests.unit.builders import add_cluster, add_node, add_service, add_task, apply, new_ids

new_id = id_source(random.Random(1))
ADDRESS = TaskAddress("n" * 25, "ffff:" * 7 + "ffff/128", "ffff:" * 7 + "ffff/128")


def ended_task(n: int, error: str, addresses: int = 0, state: int = FAILED) -> Task:
    result = TaskStatus(state, 1.7e9 + n, "started", error, "c" * 64, 4_000_000, -1, (), 1.7e9)
    return Task(
        id=new_id(),
        service_id="s",
        node_id="a",
        slot=1_000_000,
        spec_version=100_000,
        desired_state=SHUTDOWN,
        created_at=1.7e9,
        updated_at=1.7e9 + n,
        run_at=1.7e9,
        result=result,
        attempt=100_000,
        addresses=(ADDRESS,) * addresses,
    )


def add_ended(view: View, task_id: str, slot: int) -> None:
    task = add_task(view, task_id, "a", slot, desired=SHUTDOWN, observed=None)
    view.put_task(replace(task, result=TaskStatus(COMPLETE, 1.0)))


def test_the_table_adds_up_and_a_quota_that_is_too_small_for_it_is_refused() -> None:
    bounds.check_sum()
    needed = bounds.HISTORY_SHARE * sum(share.total_max_bytes for share in bounds.SHARES)
    bounds.check_sum(needed)
    with pytest.raises(
        Invalid, match=rf"quota of {(needed - 1) // MIB} MiB is too small: {needed // MIB} MiB"
    ):
        bounds.check_sum(needed - 1)


def test_a_table_that_does_not_add_up_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "COMPLETIONS_MAX", 50_000)
    with pytest.raises(Invalid, match="a job on one node takes 5265536 bytes, 2031616 may be"):
        bounds.check_sum()


def test_a_task_takes_no_more_than_is_reckoned() -> None:
    thin = fitted([ended_task(0, "E" * 2000, 3)], 0)
    assert len(thin) <= TASK_BYTES
    for count in (0, 1, SERVICE_NETWORKS_MAX):
        live = replace(ended_task(0, "", count), result=None)
        assert len(codec.encode_bucket([live])) <= TASK_BYTES + count * TASK_ADDRESS_BYTES


def test_texts_of_what_ended_first_are_left_out_where_a_bucket_is_too_large() -> None:
    """700 ended tasks with long errors were 11.3 MB."""
    tasks = [ended_task(n, "\U0001f41d" * STATUS_ERROR_MAX_BYTES) for n in range(700)]
    stored = fitted(tasks, BUCKET_MAX_BYTES)
    assert BUCKET_MAX_BYTES * 0.95 < len(stored) <= BUCKET_MAX_BYTES
    read = codec.decode_bucket(codec.bucket_key("a", "s"), stored, 0)
    assert [(t.id, t.updated_at) for t in read] == [(t.id, t.updated_at) for t in tasks]
    assert {(t.result.state, t.result.exit_code) for t in read if t.result} == {(FAILED, -1)}
    errors = [t.result.error for t in read if t.result]
    assert "" in errors
    assert "" not in errors[errors.index(tasks[-1].result.error if tasks[-1].result else "") :]


def test_as_many_errors_as_long_as_may_be_are_kept_whole_as_a_slot_may_have_and_more() -> None:
    text = "E" * (STATUS_ERROR_MAX_BYTES + STATUS_MESSAGE_MAX_BYTES)
    tasks = [ended_task(n, text) for n in range(700)]
    assert fitted(tasks, BUCKET_MAX_BYTES) == codec.encode_bucket(tasks)


def test_a_job_of_as_many_completions_as_may_be_fits_on_one_node() -> None:
    """50,000 on one node with an overlay were 10.8 MB."""
    tasks = [ended_task(n, "", 1, COMPLETE) for n in range(COMPLETIONS_MAX)]
    assert len(fitted(tasks, BUCKET_MAX_BYTES)) <= BUCKET_MAX_BYTES


def test_what_a_node_has_had_of_a_service_leaves_less_room_for_more() -> None:
    view = View()
    add_node(view, "a")
    add_service(view, "s", replicas=1)
    for n in range(18_800):
        add_ended(view, f"t{n}", n + 1)
    placement = Round(view, 0).place([NewTask(new_id(), "s", 30_000 + n, 1, 0.0) for n in range(200)])
    assert (len(placement.placed), len(placement.pending)) == (104, 96)
    assert placement.pending[0].reason == "no suitable node (max replicas per node limit exceed)"


def test_tasks_with_many_addresses_are_fewer_on_a_node() -> None:
    view = View()
    add_node(view, "a")
    add_service(view, "s", replicas=1000)
    demand = view.demand("s", 1)
    demand.stored_bytes += SERVICE_NETWORKS_MAX * TASK_ADDRESS_BYTES
    placement = Round(view, 0).place([NewTask(new_id(), "s", n + 1, 1, 0.0) for n in range(1000)])
    assert 200 < len(placement.placed) < 300


def test_a_full_bucket_lets_go_of_history_before_its_time() -> None:
    view = View()
    add_cluster(view, history_limit=100)
    add_node(view, "a")
    add_service(view, "s", replicas=5000)
    for slot in range(1, 5001):
        for n in range(2 if slot > 1 else 5):
            add_ended(view, f"t{slot}-{n}", slot)
        add_task(view, f"t{slot}-live", "a", slot=slot, observed=RUNNING)
    plan = decide_slot(view, view.services["s"], 1, 10.0, new_ids())
    assert [change.task.id for change in plan.changes] == [f"t1-{n}" for n in range(5)]
    assert all(isinstance(change, DropTask) for change in plan.changes)
    apply(view, plan.changes)


def test_a_spec_that_is_too_large_is_refused_with_both_sizes() -> None:
    def spec(size: int) -> ServiceSpec:
        task = TaskSpec(container_spec=ContainerSpec(image="i", labels={"x": "y" * size}))
        return ServiceSpec(name="s", task_template=task)

    validate_service(spec(SERVICE_SPEC_MAX_BYTES - KIB))
    said = rf"the service's spec would take 20\d{{4}} bytes of the store; {SERVICE_SPEC_MAX_BYTES} may be"
    with pytest.raises(TooLarge, match=said):
        validate_service(spec(SERVICE_SPEC_MAX_BYTES))
    networks = [NetworkAttachmentConfig(target=f"n{n}") for n in range(SERVICE_NETWORKS_MAX + 1)]
    with pytest.raises(Invalid, match="at most 64 networks, 65 are asked for"):
        validate_service(replace(spec(1), networks=networks))
    network = NetworkSpec(name="n", driver="overlay", labels={"x": "y" * NETWORK_MAX_BYTES})
    with pytest.raises(TooLarge, match=f"the network's spec would take .* {NETWORK_MAX_BYTES // 2} may be"):
        validate_network(network)


def test_a_spec_that_an_earlier_skep_let_become_too_large_can_be_scaled_and_updated_and_not_grow() -> None:
    """Clients post the whole spec: it could be neither."""

    def spec(size: int, replicas: int, image: str = "i:1.9") -> ServiceSpec:
        container = ContainerSpec(image=image, labels={"x": "y" * size})
        mode = ServiceMode(replicated=ReplicatedMode(replicas=replicas))
        return ServiceSpec(name="s", mode=mode, task_template=TaskSpec(container_spec=container))

    large = SERVICE_SPEC_MAX_BYTES * 2
    stored = spec(large, 1)
    validate_service(spec(large, 1000), stored)
    validate_service(spec(large, 1, "i:1.10"), stored)
    validate_service(spec(large // 2 + KIB, 1), stored)
    with pytest.raises(TooLarge, match=f"{SERVICE_SPEC_MAX_BYTES} may be"):
        validate_service(spec(large + 2 * KIB, 1), stored)
    with pytest.raises(TooLarge):
        validate_service(spec(large, 1), spec(1, 1))

    def attached(networks: int, constraints: int) -> ServiceSpec:
        listed = [NetworkAttachmentConfig(target=f"n{n}") for n in range(networks)]
        placement = Placement(constraints=[f"node.labels.a=={n}" for n in range(constraints)])
        small = spec(1, 1)
        return replace(
            small, task_template=replace(small.task_template, networks=listed, placement=placement)
        )

    validate_service(attached(65, 101), attached(66, 102))
    with pytest.raises(Invalid, match="at most 64 networks, 67 are asked for"):
        validate_service(attached(67, 1), attached(66, 102))
    with pytest.raises(Invalid, match="at most 100 placement constraints, not 103"):
        validate_service(attached(1, 103), attached(66, 102))


def test_a_service_that_an_earlier_skep_let_become_too_large_can_be_removed() -> None:
    """Its marker of removal is a key of its own, and was refused as one that grows."""

    async def scenario() -> None:
        state, value = MemoryState(), bytes(1700 * KIB)
        state.write([Put(codec.service_key("1"), value), Put(codec.service_key("2"), value)])
        store = BoundedStore(MemoryStore(state))
        await store.load("/skep/")
        marker = Put(codec.removed_key("1"), bytes(1690 * KIB))
        for other in ((), (Delete(codec.service_key("2")),)):  # nothing goes, or not what it is the marker of
            with pytest.raises(TooLarge):
                await store.commit(Txn((*other, marker)))
        await store.commit(Txn((Delete(codec.service_key("1")), marker)))
        assert store.totals["services"] < 2 * len(value) + 100

    asyncio.run(scenario())


def test_all_services_together_have_no_more_replicas_than_there_is_room_for() -> None:
    def spec(replicas: int) -> ServiceSpec:
        return ServiceSpec(name="s", mode=ServiceMode(replicated=ReplicatedMode(replicas=replicas)))

    view = View()
    add_service(view, "a", replicas=500_000)
    add_service(view, "b", replicas=100_000)
    add_service(view, "a", replicas=500_000)  # written again
    view.remove_service(RemovedService(id="b", name="b", templates=[], removed_at=0.0))
    assert view.tasks_wanted == 500_000
    check_replicas(spec(500_000), view.tasks_wanted)
    with pytest.raises(TooLarge, match="would have 1000001 replicas together; 1000000 may be"):
        check_replicas(spec(500_001), view.tasks_wanted)
    check_replicas(spec(0), 1_200_000)  # of an earlier skep: it can be made less


def test_ops_are_cut_by_their_number_and_by_their_bytes() -> None:
    ops = [Put(f"/k/{n}", b"x" * (100 * KIB)) for n in range(50)] + [Delete(f"/d/{n}") for n in range(3000)]
    parts = list(cut(ops))
    assert [op for part in parts for op in part] == ops
    assert max(len(part) for part in parts) == 1024
    assert max(sum(map(op_bytes, part)) for part in parts) <= TXN_CUT_BYTES
    assert len(parts) == 5 + 3


def test_no_store_is_sent_more_than_fits() -> None:
    async def scenario() -> None:
        store = MemoryStore(MemoryState())
        await store.commit(Txn((Put("/a", b"x" * (TXN_MAX_BYTES - KIB)),)))
        with pytest.raises(
            TooLarge, match=rf"a write of {TXN_MAX_BYTES + 66} bytes .*\({TXN_MAX_BYTES} bytes\)"
        ):
            await store.commit(Txn((Put("/a", b"x" * TXN_MAX_BYTES),)))

    asyncio.run(scenario())


def test_a_kind_of_objects_takes_no_more_of_the_store_than_its_share() -> None:
    async def scenario() -> None:
        state = MemoryState()
        value, total = bounds.CONFIG_DATA_MAX_BYTES, 128 * MIB
        state.write(Put(f"/skep/configs/{n:03}", bytes(value)) for n in range(total // value - 1))
        store = BoundedStore(MemoryStore(state))
        await store.load("/skep/")
        await store.commit(Txn((Put("/skep/secrets/1", bytes(value)),)))
        more = Txn((Put("/skep/secrets/2", bytes(value)),))
        with pytest.raises(TooLarge, match=r"secrets and configs would take .* together; 134217728 may be"):
            await store.commit(more)
        await store.commit(Txn((Put("/skep/secrets/1", bytes(value)),)))  # again: it takes no more
        await store.commit(Txn((Put("/skep/services/1", bytes(KIB)),)))
        await store.commit(Txn((Delete("/skep/configs/000"),)))
        await store.commit(more)
        with pytest.raises(TooLarge, match=r"this, with its labels, would take \d+ bytes .* 1089536 may be"):
            await store.commit(Txn((Put("/skep/secrets/3", bytes(1100 * KIB)),)))

    asyncio.run(scenario())


def test_what_was_not_written_takes_nothing_and_what_may_have_been_does() -> None:
    class Doubtful(MemoryStore):
        async def commit(self, txn: Txn) -> int:
            await super().commit(txn)
            raise OutcomeUnknown("lost")

    async def scenario() -> None:
        state = MemoryState()
        store = BoundedStore(MemoryStore(state))
        await store.load("/skep/")
        op = Put("/skep/nodes/1", bytes(100))
        with pytest.raises(Conflict):
            await store.commit(Txn((op,), compares=(Compare("/skep/nodes/2", 7),)))
        assert store.totals["nodes"] == 0
        doubtful = BoundedStore(Doubtful(state))
        with pytest.raises(OutcomeUnknown):
            await doubtful.commit(Txn((op,)))
        assert doubtful.totals["nodes"] == 100 + len(op.key)

    asyncio.run(scenario())


def test_what_an_earlier_skep_let_become_too_large_can_become_less() -> None:
    async def scenario() -> None:
        state = MemoryState()
        state.write([Put("/skep/services/1", bytes(5 * MIB))])
        store = BoundedStore(MemoryStore(state))
        await store.load("/skep/")
        await store.commit(Txn((Put("/skep/services/1", bytes(1700 * KIB)),)))
        with pytest.raises(TooLarge):
            await store.commit(Txn((Put("/skep/services/1", bytes(1800 * KIB)),)))

    asyncio.run(scenario())
