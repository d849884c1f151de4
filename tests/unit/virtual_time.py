"""The event loop of the unit tests: nobody waits, time jumps to the next timer.

Threads that the loop is given are real, and what they do takes no time: the loop waits for them before it jumps.
What is slow says so by `spend`. So a test takes the same turns on a machine with much to do.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, TypeVar

from skep.sim.loop import VirtualLoop

THREADS_MAX = 8  # at work at the same time; tests begin two or three
TURN_S = 0.01  # between two looks of a thread that waits

T = TypeVar("T")


class UnitLoop(VirtualLoop):
    """Virtual time, with threads: `asyncio.to_thread` works. No sockets and no child processes."""

    def __init__(self) -> None:
        super().__init__()
        self._at_work = 0  # threads that do something, `spend` left out
        self._is_closing = False
        self._threads: ThreadPoolExecutor | None = None
        self._jumping_select = self._selector.select
        self._selector.select = self._select

    def _select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self._at_work and timeout != 0:
            self._selector.busy = 0
            # Until one of them has something to say: no time passes.
            return selectors.SelectSelector.select(self._selector, None)
        return self._jumping_select(timeout)

    def run_in_executor(  # type: ignore[override] # a future, as it has always been
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        if executor is None:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(THREADS_MAX, "unit", initializer=self._own_thread)
            executor = self._threads
        self._at_work += 1
        work = executor.submit(func, *args)
        future = asyncio.wrap_future(work, loop=self)
        # After the future's own call-back: else time could pass before the result is there.
        work.add_done_callback(lambda _: self.call_soon_threadsafe(self._add_at_work, -1))
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        self._is_closing = True
        if self._threads is not None:
            self._threads.shutdown()

    def _own_thread(self) -> None:
        _thread.loop = self

    def _add_at_work(self, number: int) -> None:
        self._at_work += number

    def sleep_in_thread(self, seconds: float) -> None:
        """Returns when the time has passed, in a thread of this loop's; at once when the loop is closing."""
        over = threading.Event()
        self.call_soon_threadsafe(self._rest, seconds, over)
        while not over.wait(0.1) and not self._is_closing:
            pass

    def _rest(self, seconds: float, over: threading.Event) -> None:
        def resume() -> None:
            self._at_work += 1
            over.set()

        self._at_work -= 1
        self.call_later(seconds, resume)


_thread = threading.local()


def spend(seconds: float) -> None:
    """What `time.sleep` is in real time. Called by the loop it holds the loop up; called in a thread of the
    loop's the loop goes on meanwhile."""
    loop: UnitLoop | None = getattr(_thread, "loop", None)
    if loop is not None:
        loop.sleep_in_thread(seconds)
        return
    running = asyncio.get_running_loop()
    assert isinstance(running, UnitLoop), "real time is spent by time.sleep"
    running.jump(seconds)


def wait_in_thread(event: threading.Event, seconds: float) -> bool:
    """Returns whether the event was set before so much virtual time had passed."""
    for _ in range(round(seconds / TURN_S)):
        if event.is_set():
            break
        spend(TURN_S)
    return event.is_set()
