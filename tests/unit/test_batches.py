"""When what has changed is told."""

from __future__ import annotations

import asyncio

from skep.manager.dispatcher.batches import BATCH_S, BYTES_PER_S, Batches
from skep.sim.loop import VirtualLoop


def test_what_is_left_is_told_once_the_rest_is_on_its_way() -> None:
    async def run() -> list[float]:
        loop, told_at = asyncio.get_running_loop(), list[float]()

        def tell() -> None:
            told_at.append(loop.time())
            if len(told_at) < 3:
                batches.soon()  # there is more
                batches.sent(BYTES_PER_S)

        batches = Batches("test", tell)
        batches.soon()
        await asyncio.sleep(10.0)
        return [at - told_at[0] for at in told_at]

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        first, second, third = runner.run(run())
    assert first == 0.0
    assert 1.0 <= second <= 1.0 + BATCH_S
    assert 2.0 <= third <= 2.0 + 2 * BATCH_S
