"""Tasks that a test leaves behind in its loop."""

from __future__ import annotations

import asyncio

TURNS = 20  # of the loop, in which what was cancelled may come to its end; most takes two
NAMED_MAX = 10


async def left_behind() -> list[str]:
    """Returns the tasks beside this one that go on, each with where it stands; of very many the first ones."""
    left: set[asyncio.Task[object]] = set()
    for _ in range(TURNS):
        left = asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type] # this one is none
        if not left:
            return []
        await asyncio.sleep(0)
    return sorted(map(_named, left))[:NAMED_MAX]


def _named(task: asyncio.Task[object]) -> str:
    coroutine = task.get_coro()
    frames = task.get_stack(limit=1)
    at = f" at {frames[0].f_code.co_filename}:{frames[0].f_lineno}" if frames else ""
    return f"{getattr(coroutine, '__qualname__', coroutine)}{at}"
