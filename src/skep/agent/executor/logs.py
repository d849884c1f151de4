"""A task's output, as the engine has kept it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from skep.agent.executor.engine import EngineClient, Json
from skep.agent.executor.refusals import EngineError
from skep.model.logs import LogOptions
from skep.rpc.log_frames import FrameCutter, with_empty_details

STARTED_POLL_S = 0.2  # a container that is about to start; a follower waits for it


async def task_logs(
    engine: EngineClient, labels: tuple[str, ...], since: str, options: LogOptions, limit: int
) -> AsyncIterator[bytes]:
    """See `Executor.logs`; the container is the one with these labels."""
    inspected = await _container(engine, labels)
    while options.follow and inspected is not None and inspected["State"]["Status"] == "created":
        await asyncio.sleep(STARTED_POLL_S)
        inspected = await _container(engine, labels)
    if inspected is None:
        return
    adds_details = options.details and await engine.is_podman()  # which says none where they are asked for
    wanted = {
        "follow": options.follow,
        "stdout": options.stdout,
        "stderr": options.stderr,
        "details": options.details and not adds_details,
        "timestamps": True,
    }
    parameters = {name: "1" for name, is_wanted in wanted.items() if is_wanted}
    if options.tail >= 0:
        parameters["tail"] = str(options.tail)
    if since:
        parameters["since"] = since
    cutter = FrameCutter(
        is_tty=bool(inspected["Config"]["Tty"]), details=bool(wanted["details"]), limit=limit
    )
    try:
        async for data in engine.logs(str(inspected["Id"]), parameters):
            for piece in cutter.take(data):
                yield with_empty_details(piece) if adds_details else piece
    except ValueError as error:
        raise EngineError(500, str(error)) from error
    for piece in cutter.rest():
        yield with_empty_details(piece) if adds_details else piece


async def _container(engine: EngineClient, labels: tuple[str, ...]) -> Json | None:
    for listed in await engine.containers(*labels):
        return await engine.inspect(str(listed["Id"]))
    return None
