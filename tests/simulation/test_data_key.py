"""The leader's change of the data key: what it waits for, whom it tells, and what it says meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from skep.manager.confirmed_commit import commit_changed
from skep.manager.control.autolock import unlock_key
from skep.manager.control.nodes import NodeControl
from skep.manager.data_key import REST_S, DataKeyChange, KeyAct, decide
from skep.manager.dispatcher.observer import NodeObserver
from skep.manager.dispatcher.sessions import SessionHandler, Sessions
from skep.manager.resealing import HeldKeys
from skep.model.cluster import Cluster
from skep.model.node import UPGRADE_LABEL, NodeSpec
from skep.rpc.messages import DATA_KEYS, SELF_REPORTED, DataKeys, HasDataKeys, Register, encode
from skep.rpc.messages.data_keys import digests_of
from skep.runtime.errors import Conflict, Corrupt, Invalid, StaleVersion
from skep.store import codec
from skep.store.interfaces import Fence, Member, Put, Txn
from skep.store.memory import MemoryState, MemoryStore
from skep.store.seal import Sealer
from skep.store.sealed import SealedStore
from skep.store.view import View
from tests.terms import term_of
from tests.unit.manager.control.test_unlock_key import cluster

from .test_leader_parts import Line, new_node, run

OLD, NEW = b"o" * 32, b"n" * 32
UNLOCK = unlock_key(b"1" * 32)


class Held:
    """Keys on a disk that is never full."""

    def __init__(self, store: SealedStore) -> None:
        self.keys: tuple[bytes, ...] = (OLD,)
        self.store = store

    @property
    def opening(self) -> tuple[bytes, ...]:
        return self.keys

    async def lead(self, leads: bool) -> None: ...

    async def keep(self, keys: Sequence[bytes], unlock_key: str | None = None) -> None:
        self.keys = tuple(keys)
        self.store.use(Sealer(keys[0], older=keys[1:]))


def wanting(managers: str = "abc") -> View:
    """Returns the view of a swarm that wants another key."""
    view = View()
    view.put_cluster(cluster(UNLOCK).wanting_data_key())
    for name in managers:
        view.put_node(replace(new_node(name), spec=NodeSpec(role="manager")))
    view.members = tuple(Member(n, name, False) for n, name in enumerate(managers))
    return view


class Stage:
    """Manager `a` leads, on a store in memory; the others are lines."""

    def __init__(self, managers: str = "abc") -> None:
        self.state = MemoryState()
        self.view = wanting(managers)
        self.store = SealedStore(MemoryStore(self.state), Sealer(OLD))
        self.sessions = Sessions(self.view, [], NodeObserver())
        self.fence = Fence(codec.LEADER_KEY, 0)
        self.held: HeldKeys = Held(self.store)
        self.to_make = [NEW]

    async def begin(self) -> asyncio.Task[None]:
        first = (
            Put(codec.SCHEMA_KEY, b"2"),
            Put(codec.LEADER_KEY, b"a"),
            Put(codec.CLUSTER_KEY, codec.encode_object(self.cluster)),
        )
        revision = await self.store.commit(Txn(first))
        self.fence = Fence(codec.LEADER_KEY, revision)
        self.view.put_cluster(replace(self.cluster, version=revision))
        self.change = DataKeyChange(
            self.held, term_of(self.store, self.fence, self.view), self.sessions, "a", self.random
        )
        self.sessions.on(Register, self.change.began)
        self.sessions.on(HasDataKeys, self.change.has)
        return asyncio.ensure_future(self.change.run())

    def random(self, size: int) -> bytes:
        """Returns the next of the keys to make, the last again and again."""
        return self.to_make.pop(0) if len(self.to_make) > 1 else self.to_make[0]

    @property
    def cluster(self) -> Cluster:
        assert self.view.cluster is not None
        return self.view.cluster

    def register(self, line: Line, features: list[str]) -> SessionHandler:
        assert line.identity is not None
        handler = self.sessions.open(line)
        said = Register(new_node(line.identity.node_id).description, "", features)
        handler.frame(encode(said))
        return handler

    def opened_by(self, key: bytes) -> bool:
        try:
            return bool(Sealer(key).open(self.state.entries[codec.CLUSTER_KEY].value, codec.CLUSTER_KEY))
        except Corrupt:
            return False


def told(line: Line) -> list[DataKeys]:
    return [message for message in line.sent if isinstance(message, DataKeys)]


def test_a_member_of_an_earlier_skep_holds_it_back_and_the_log_says_so() -> None:
    async def scenario() -> None:
        stage = Stage()
        running = await stage.begin()
        lines = {name: Line(name) for name in "bc"}
        with capture_logs() as logs:
            first = stage.register(lines["b"], [DATA_KEYS])
            stage.register(lines["c"], [SELF_REPORTED])
            await asyncio.sleep(300)
        said = [entry["reason"] for entry in logs if entry["event"] == "data_key.waits"]
        assert 3 <= len(said) <= 8, "now and then"
        assert all("earlier skep" in text and ": c; update skep on them" in text for text in said)
        assert stage.held.keys == (OLD,)
        assert not told(lines["c"])
        await stage.held.keep([OLD, NEW])  # as while it is changed
        with pytest.raises(Conflict, match="earlier skep"):
            stage.change.for_new("c")
        await stage.held.keep([OLD])

        again = Line("c")
        second = stage.register(again, [DATA_KEYS])
        await asyncio.sleep(2)
        assert stage.held.keys == (OLD, NEW)
        for line, first_or_second in ((lines["b"], first), (again, second)):
            assert told(line)[-1] == DataKeys([OLD, NEW], UNLOCK, stage.sessions.lead)
            assert not stage.opened_by(NEW), "not before all that are here have it"
            first_or_second.frame(encode(HasDataKeys(digests_of([OLD, NEW]))))
        await asyncio.wait_for(running, 2)
        assert stage.opened_by(NEW)
        assert not stage.opened_by(OLD)
        assert stage.cluster.data_key_done == stage.cluster.data_key_wanted == 1
        stage.sessions.stop()

    run(scenario)


def test_a_manager_that_is_away_is_not_waited_for_and_one_that_goes_is_told_nothing() -> None:
    async def scenario() -> None:
        stage = Stage()
        running = await stage.begin()
        lines = {name: Line(name) for name in "bc"}
        handlers = {name: stage.register(line, [DATA_KEYS]) for name, line in lines.items()}
        await asyncio.sleep(0.1)
        handlers["c"].closed("it is switched off")
        stage.view.reachable = frozenset("abc")
        handlers["b"].frame(encode(HasDataKeys(digests_of([OLD]))))
        await asyncio.sleep(REST_S + 2)
        assert [OLD, NEW] in [said.keys for said in told(lines["b"])]
        handlers["b"].frame(encode(HasDataKeys(digests_of([OLD, NEW]))))
        await asyncio.sleep(5)
        assert stage.opened_by(OLD), "its etcd takes part still: it would hold what it cannot open"
        stage.view.reachable = frozenset("ab")
        await asyncio.wait_for(running, 2)
        assert stage.opened_by(NEW)
        assert [OLD, NEW] not in [said.keys for said in told(lines["c"])]
        stage.sessions.stop()

    run(scenario)


async def nodes_of(stage: Stage) -> NodeControl:
    """Returns what changes the nodes of the view, which are written now."""
    for node in list(stage.view.nodes.values()):
        revision = await stage.store.commit(Txn((Put(codec.node_key(node.id), codec.encode_object(node)),)))
        stage.view.put_node(replace(node, version=revision))
    stage.view.reachable = frozenset(stage.view.nodes)
    return NodeControl(
        term_of(stage.store, stage.fence, stage.view),
        None,  # type: ignore[arg-type] # who writes descriptions
    )


@pytest.mark.parametrize("is_removal", [False, True])
def test_what_others_write_of_the_cluster_keeps_no_node_from_being_demoted_or_removed(
    is_removal: bool,
) -> None:
    async def scenario() -> None:
        stage = Stage()
        running = await stage.begin()
        nodes = await nodes_of(stage)
        present, version = stage.cluster, stage.view.nodes["c"].version
        stage.view.put_cluster(
            replace(present, version=present.version - 1)
        )  # the other's answer is on its way
        if is_removal:
            stage.view.members = stage.view.members[:2]
            change = asyncio.ensure_future(nodes.remove("c", force=True))
        else:
            change = asyncio.ensure_future(nodes.update("c", version, NodeSpec(role="worker")))  # type: ignore[arg-type]
        await asyncio.sleep(0.2)
        stage.view.put_cluster(present)
        await change
        assert stage.cluster.data_key_wanted == present.data_key_wanted + 1
        with pytest.raises(StaleVersion):
            await nodes.update("b", 1, NodeSpec(role="worker"))
        running.cancel()
        stage.sessions.stop()

    run(scenario)


def test_of_two_managers_that_are_demoted_at_once_one_stays() -> None:
    async def scenario() -> None:
        stage = Stage("ab")
        running = await stage.begin()
        nodes = await nodes_of(stage)
        done = await asyncio.gather(
            *(nodes.update(n, stage.view.nodes[n].version, NodeSpec(role="worker")) for n in "ab"),
            return_exceptions=True,
        )
        assert [isinstance(each, Invalid) for each in done] == [False, True]
        running.cancel()
        stage.sessions.stop()

    run(scenario)


def test_a_demotion_is_written_with_the_order_and_whoever_is_demoted_gets_no_key() -> None:
    async def scenario() -> None:
        stage = Stage()
        stage.view.put_cluster(replace(stage.cluster, data_key_done=1))
        running = await stage.begin()
        nodes = await nodes_of(stage)
        line = Line("c")
        stage.register(Line("b"), [DATA_KEYS])
        stage.register(line, [DATA_KEYS])
        await asyncio.sleep(5)
        await nodes.update("c", stage.view.nodes["c"].version, NodeSpec(role="worker"))
        assert stage.cluster.data_key_wanted == 2
        revisions = {stage.state.entries[key].modified for key in (codec.node_key("c"), codec.CLUSTER_KEY)}
        assert len(revisions) == 1, "both or none"
        await asyncio.sleep(30)
        assert stage.held.keys == (OLD,)
        stage.view.members = stage.view.members[:2]
        await asyncio.sleep(5)
        assert stage.held.keys == (OLD, NEW)
        assert all(NEW not in said.keys for said in told(line))
        running.cancel()
        stage.sessions.stop()

    run(scenario)


def test_a_manager_that_is_demoted_for_its_upgrade_changes_no_key_unless_that_is_given_up() -> None:
    """Each change ends the lead: an upgrade of three managers would have changed it three times."""

    async def scenario() -> None:
        stage = Stage()
        stage.view.put_cluster(replace(stage.cluster, data_key_done=1))
        running = await stage.begin()
        nodes = await nodes_of(stage)

        async def becomes(role: str, **labels: str) -> int:
            await nodes.update("c", stage.view.nodes["c"].version, NodeSpec(role=role, labels=labels))
            return stage.cluster.data_key_wanted

        label = {UPGRADE_LABEL: "demoted"}
        assert await becomes("manager", **label) == 1
        assert await becomes("worker", **label) == 1
        assert await becomes("manager", **label) == 1
        assert await becomes("manager") == 1
        assert await becomes("worker", **label) == 1
        assert await becomes("worker") == 2, "given up: it stays a worker"
        assert await becomes("worker", other="x") == 2
        running.cancel()
        stage.sessions.stop()

    run(scenario)


def test_a_key_that_the_leaders_own_disk_has_no_more_is_not_sealed_with() -> None:
    """Found by the simulation: a word of before took it away between its making and its use."""

    async def scenario() -> None:
        stage = Stage()
        running = await stage.begin()
        lines = {name: Line(name) for name in "bc"}
        handlers = [stage.register(line, [DATA_KEYS]) for line in lines.values()]
        await asyncio.sleep(REST_S + 2)
        assert stage.held.keys == (OLD, NEW)
        await stage.held.keep([OLD])
        for handler in handlers:
            handler.frame(encode(HasDataKeys(digests_of([OLD]))))
        await asyncio.sleep(0.1)
        assert stage.opened_by(OLD)
        assert not running.done()
        running.cancel()
        stage.sessions.stop()

    run(scenario)


def test_what_a_write_of_two_objects_compares_is_both() -> None:
    async def scenario() -> None:
        stage = Stage()
        await stage.begin()
        one, two = Put(codec.node_key("a"), b"1"), Put(codec.node_key("b"), b"2")
        revision = await stage.store.commit(Txn((one, two)))
        await commit_changed(stage.store, stage.fence, one, revision)
        with pytest.raises(Conflict, match="update out of sequence"):
            await commit_changed(stage.store, stage.fence, two, revision, (one, revision))
        stage.sessions.stop()

    run(scenario)


@pytest.mark.parametrize(
    ("managers", "here", "having", "made_for", "act"),
    [
        ("abc", "abc", "abc", 0, KeyAct.MAKE),
        ("abc", "abc", "a", 1, KeyAct.WAIT),
        ("abc", "abc", "ab", 1, KeyAct.WAIT),
        ("abc", "abc", "abc", 1, KeyAct.SEAL),
        ("abc", "ab", "ab", 1, KeyAct.SEAL),
        ("abc", "a", "a", 1, KeyAct.WAIT),
        ("abcd", "ab", "ab", 1, KeyAct.WAIT),
        ("abcde", "abc", "abc", 1, KeyAct.SEAL),
        ("a", "", "a", 1, KeyAct.SEAL),
        ("ab", "a", "a", 1, KeyAct.WAIT),
    ],
)
def test_a_key_is_sealed_with_once_a_majority_and_all_that_are_here_have_it(
    managers: str, here: str, having: str, made_for: int, act: KeyAct
) -> None:
    assert decide(wanting(managers), managers, here, having, made_for, True).act is act


def test_nothing_is_done_where_nothing_is_wanted_or_it_cannot_be() -> None:
    view = wanting()
    assert decide(view, "abc", "abc", "abc", 1, False).act is KeyAct.WAIT
    assert decide(view, "ab", "abc", "abc", 1, True).act is KeyAct.WAIT
    view.put_node(replace(view.nodes["c"], spec=NodeSpec(role="worker")))
    assert "on their way out: c" in decide(view, "abc", "abc", "abc", 1, True).why
    view.put_cluster(replace(cluster(""), data_key_wanted=3, data_key_done=3))
    assert decide(view, "abc", "abc", "abc", 1, True).act is KeyAct.NOTHING
