"""A node becomes what the leader says, whatever it said before."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from skep.daemon.role_keeper import RoleKeeper
from skep.daemon.state import Membership
from skep.rpc.messages import Managing, Role
from skep.runtime.errors import Unavailable
from skep.sim.loop import VirtualLoop


class Manager:
    """Never gets its vote, or cannot join."""

    def __init__(self, why_not: str = "") -> None:
        self._why_not = why_not

    async def wait_voter(self) -> None:
        if self._why_not:
            await asyncio.sleep(3)
            raise Unavailable(self._why_not)
        await asyncio.Event().wait()

    async def demote_self(self) -> None: ...


class Leader:
    """The session and the agent in one: the leader says yes to everything."""

    local_host = ""
    asked = 0

    @property
    def session(self) -> Leader:
        return self

    async def manage(self, manager_addr: str) -> Managing:
        self.asked += 1
        return Managing({}, b"")

    async def renew_as(self, role: str) -> None: ...

    def advertise(self, manager_addr: str) -> None: ...


class Node:
    """Fulfils `role_keeper.Node`."""

    is_misplaced = False

    def __init__(self) -> None:
        self.agent = Leader()
        self.cannot: list[str] = []  # why managers that are begun cannot join, one after the other
        self.running_manager: Manager | None = None
        self.membership = Membership(
            node_id="n",
            cluster_id="c",
            role="worker",
            managers=[],
            listen="10.0.0.1:1",
            advertise="10.0.0.1:1",
        )

    def remember(self, membership: Membership) -> None:
        self.membership = membership

    async def end_manager(self) -> None:
        self.running_manager = None

    def take_data_key(self, data_key: bytes, unlock_key: str, older: Sequence[bytes] = ()) -> None: ...

    async def begin_manager(self) -> None:
        self.running_manager = Manager(self.cannot.pop(0) if self.cannot else "")


def test_a_manager_that_is_demoted_before_it_has_its_vote_becomes_a_worker() -> None:
    """Found by the simulation's seed 37: it waited for the vote for ever."""

    async def scenario() -> None:
        node = Node()
        keeper = RoleKeeper(node)
        keeper.told(Role("manager", False))
        await asyncio.sleep(1)
        assert node.running_manager is not None
        keeper.told(Role("manager", True))
        await asyncio.sleep(1)
        keeper.told(Role("worker", False))
        await asyncio.wait_for(keeper.wait_settled(), 5)
        assert (node.running_manager, node.membership.role) == (None, "worker")
        await keeper.stop()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())


def test_a_manager_whose_etcd_cannot_join_is_taken_in_anew() -> None:
    """Another one was demoted between the word and etcd's start: etcd refused members that were no more, and was
    started again with them for ever."""

    async def scenario() -> None:
        node = Node()
        node.cannot = ["member count is unequal", "member count is unequal"]
        keeper = RoleKeeper(node)
        keeper.told(Role("manager", False))
        await asyncio.sleep(3.5)
        assert "member count is unequal" in keeper.trouble
        keeper.told(Role("manager", True))  # the leader sees a member, which is not one yet
        await asyncio.sleep(30)
        assert node.agent.asked == 3, "the third one can"
        await keeper.stop()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())
