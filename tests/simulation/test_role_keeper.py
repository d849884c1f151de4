"""A node becomes what the leader says, whatever it said before."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from skep.daemon.role_keeper import RoleKeeper
from skep.daemon.state import Membership
from skep.rpc.messages import Managing, Role
from skep.sim.loop import VirtualLoop


class Manager:
    """Never gets its vote."""

    async def wait_voter(self) -> None:
        await asyncio.Event().wait()

    async def demote_self(self) -> None: ...


class Leader:
    """The session and the agent in one: the leader says yes to everything."""

    manager_addr = local_host = ""

    @property
    def session(self) -> Leader:
        return self

    async def manage(self, manager_addr: str) -> Managing:
        return Managing({}, b"")

    async def renew_as(self, role: str) -> None: ...


class Node:
    """Fulfils `role_keeper.Node`."""

    is_misplaced = False

    def __init__(self) -> None:
        self.agent = Leader()
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
        self.running_manager = Manager()


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
