"""Brings what tasks have put out to the manager that asks for it, over a connection of its own.

Bounded in both directions: a manager that does not read holds back the executor's streams, and they hold back
the engine; what is asked for beyond the limits is answered with a reason.
"""

from __future__ import annotations

import asyncio

import structlog

from skep.agent.executor.interfaces import Executor
from skep.model.logs import LogOptions
from skep.rpc.log_streams import LINES, RECORD_BYTES, TROUBLE, Connect, LogSink, open_sink
from skep.rpc.messages import ReadLogs
from skep.runtime.errors import SkepError, Unavailable

log = structlog.get_logger()

REQUESTS_MAX = 256  # connections at once: more readers of one node than anybody has; each is a TLS connection
STREAMS_MAX = 1024  # streams of the engine at once: each costs it some goroutines and an inotify
AT_ONCE = 4  # tasks whose past is read at the same time: it is the disk that limits
TROUBLE_MAX = 1000  # characters of a reason


class LogSender:
    """`connect` opens connections to managers with this node's certificate."""

    def __init__(self, connect: Connect, executor: Executor) -> None:
        self._connect = connect
        self._executor = executor
        self._requests: set[asyncio.Task[None]] = set()
        self._streams = 0

    def begin(self, address: str, asked: ReadLogs) -> None:
        """Answers a request of the manager at `address`; returns at once."""
        if len(self._requests) >= REQUESTS_MAX:
            log.warning("logs.too_many_requests", most=REQUESTS_MAX)
            return  # the manager says that this node did not answer
        work = asyncio.ensure_future(self._answer(address, asked))
        self._requests.add(work)
        work.add_done_callback(self._requests.discard)

    async def close(self) -> None:
        for work in self._requests:
            work.cancel()
        await asyncio.gather(*self._requests, return_exceptions=True)

    async def _answer(self, address: str, asked: ReadLogs) -> None:
        try:
            sink = await open_sink(self._connect, address, asked.id, asked.window)
        except SkepError as error:
            log.info("logs.not_wanted", manager=address, error=str(error))
            return
        sending = asyncio.ensure_future(self._send_all(sink, asked))
        reading = asyncio.ensure_future(sink.take_credit())
        try:
            await asyncio.wait((sending, reading), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for work in (sending, reading):
                work.cancel()
            sink.close()
            await asyncio.gather(sending, reading, return_exceptions=True)

    async def _send_all(self, sink: LogSink, asked: ReadLogs) -> None:
        gate = asyncio.Semaphore(len(asked.tasks) + 1 if asked.options.follow else AT_ONCE)
        limit = min(asked.window, RECORD_BYTES)

        async def one(number: int, task_id: str, since: str) -> None:
            async with gate:
                await self._send(sink, number, task_id, since, asked.options, limit)

        try:
            async with asyncio.TaskGroup() as group:
                for number, (task_id, since) in enumerate(asked.tasks):
                    group.create_task(one(number, task_id, since))
            await sink.finish()
        except* OSError:
            log.debug("logs.reader_gone")

    async def _send(
        self, sink: LogSink, number: int, task_id: str, since: str, options: LogOptions, limit: int
    ) -> None:
        if self._streams >= STREAMS_MAX:
            reason = f"{STREAMS_MAX} logs are read on this node already"
            await sink.send(number, TROUBLE, reason.encode())
            return
        self._streams += 1
        try:
            async for lines in self._executor.logs(task_id, since, options, limit):
                await sink.send(number, LINES, lines)
        except Unavailable as error:
            # The manager asks again while the task runs: the engine may only be starting again.
            log.info("logs.broke_off", task_id=task_id, error=str(error))
            if not options.follow:
                await sink.send(number, TROUBLE, _text(error))
        except SkepError as error:
            await sink.send(number, TROUBLE, _text(error))
        finally:
            self._streams -= 1


def _text(error: SkepError) -> bytes:
    return str(error)[:TROUBLE_MAX].encode()
