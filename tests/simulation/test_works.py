"""Work that nobody waits for: what fails it is logged, and it is begun again; its end is never held up."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from skep.daemon.role_keeper import RoleKeeper
from skep.rpc.messages import Role
from skep.runtime.errors import Unavailable
from skep.runtime.supervise import AGAIN_S, cancel_and_wait, run_forever
from skep.sim.loop import VirtualLoop


def run(scenario: Any) -> Any:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(scenario)


def test_work_that_fails_is_begun_again() -> None:
    errors: list[Exception] = [Unavailable("away"), Unavailable("away"), KeyError("unthought of")]
    began: list[float] = []

    async def work() -> None:
        began.append(asyncio.get_running_loop().time())
        if errors:
            raise errors.pop(0)

    with capture_logs() as said:
        run(run_forever("x", work))
    assert [at - began[0] for at in began] == pytest.approx([0, AGAIN_S, 2 * AGAIN_S, 3 * AGAIN_S])
    assert [line["event"] for line in said] == ["work.again", "work.failed"], "the same is said once"


def test_work_that_had_failed_is_ended_like_any_other() -> None:
    async def fails() -> None:
        raise OSError("no memory")

    async def goes_on() -> None:
        await asyncio.sleep(1e9)

    async def scenario() -> None:
        for work in (asyncio.ensure_future(fails()), asyncio.ensure_future(goes_on())):
            await asyncio.sleep(0.1)
            await cancel_and_wait(work)
            assert work.done()
        await cancel_and_wait(None)

    run(scenario())


class Failing:
    """A node whose manager cannot be ended at first."""

    running_manager = object()
    is_misplaced = False

    class membership:  # as the node's
        role = "worker"

    def __init__(self) -> None:
        self.tries = 0

    async def end_manager(self) -> None:
        self.tries += 1
        raise OSError(12, "Cannot allocate memory")


def test_a_role_that_cannot_be_taken_is_tried_again_and_the_node_can_leave() -> None:
    node = Failing()

    async def scenario() -> None:
        keeper = RoleKeeper(cast("Any", node))
        keeper.told(Role("worker", False))
        await asyncio.sleep(30)
        await keeper.stop()

    run(scenario())
    assert node.tries > 2
