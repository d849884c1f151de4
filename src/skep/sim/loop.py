"""An event loop whose time is virtual: it jumps to the next timer instead of waiting for it.

Code runs in a place, a machine, as its context says; a place can be frozen: nothing of it runs until it is
thawed, and then everything that was due.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar, TypeVarTuple

BUSY_MAX = 200_000  # turns of the loop without any time passing: a decider that never comes to rest
EPOCH_S = 1_700_000_000.0  # the wall clocks' time at the loop's 0
START_S = 1000.0  # not 0: some code uses 0 for "never"

DISK_S = 0.05  # what is done in a thread waits for a disk

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Stuck(RuntimeError):
    """Nothing is left that could ever happen, or the same happens again and again at one moment."""


class Place:
    """A machine, as far as the loop is concerned. `run` runs code there, and all that it starts."""

    def __init__(self) -> None:
        self._frozen = 0
        self._held: list[_Guarded] = []
        self._context = Context()
        self._context.run(_PLACE.set, self)

    @property
    def frozen(self) -> bool:
        return self._frozen > 0

    def context(self) -> Context:
        return self._context.copy()

    def run(self, function: Callable[..., T], *args: Any) -> T:
        return self.context().run(function, *args)

    def freeze(self) -> None:
        """Counts: it takes as many `thaw`s."""
        self._frozen += 1

    def thaw(self) -> None:
        if self._frozen:
            self._frozen -= 1
        if not self._frozen:
            self.release()

    def release(self) -> None:
        """Ends all freezing: what was due runs now, in its order."""
        self._frozen = 0
        held, self._held = self._held, []
        for guarded in held:
            guarded.go_on()

    def hold(self, guarded: _Guarded) -> None:
        self._held.append(guarded)


_PLACE: ContextVar[Place] = ContextVar("place")
OUTSIDE = Context()  # of no machine: what nothing freezes


class _Guarded:
    """A callback that waits while its place is frozen."""

    __slots__ = ("args", "callback", "context", "handle", "loop", "place")

    handle: asyncio.Handle

    def __init__(
        self, loop: VirtualLoop, place: Place, callback: Callable[..., Any], args: Any, context: Context
    ) -> None:
        self.loop, self.place, self.context = loop, place, context
        self.callback, self.args = callback, args

    def __call__(self) -> None:
        if self.place.frozen:
            self.place.hold(self)
        else:
            self.callback(*self.args)

    def go_on(self) -> None:
        if not self.handle.cancelled():
            self.loop.call_soon(self.callback, *self.args, context=self.context)


class _NoSelector(selectors.SelectSelector):
    """Waits for nothing; tells the loop how far to jump."""

    loop: VirtualLoop
    busy = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck("no timer is set and nothing is ready: the simulation is stuck")
        self.busy = 0 if timeout > 0 else self.busy + 1
        if self.busy > BUSY_MAX:
            raise Stuck(f"{BUSY_MAX} turns and no time has passed: something never comes to rest")
        self.loop.jump(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs tasks and timers of this process only: no sockets, threads or child processes."""

    def __init__(self) -> None:
        selector = _NoSelector()
        self._virtual_s = START_S
        super().__init__(selector)
        # After years a float of seconds has no nanoseconds: a timer must be due when its time has come.
        self._clock_resolution = 1e-6
        selector.loop = self

    def time(self) -> float:
        return self._virtual_s

    def jump(self, seconds: float) -> None:
        """Lets virtual time pass."""
        if seconds > 0:
            self._virtual_s += seconds

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        guarded = self._guard(callback, args, context)
        if guarded is None:
            return super().call_soon(callback, *args, context=context)
        guarded.handle = super().call_soon(guarded, context=guarded.context)
        return guarded.handle

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        guarded = self._guard(callback, args, context)
        if guarded is None:
            return super().call_at(when, callback, *args, context=context)
        handle = guarded.handle = super().call_at(when, guarded, context=guarded.context)
        return handle

    def run_in_executor(  # type: ignore[override] # a future, as it has always been
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Threads wait for disks, as a rule: what one does is done at once, and heard of a little later."""
        done: asyncio.Future[T] = self.create_future()
        try:
            result = func(*args)
        except Exception as error:
            self.call_later(DISK_S, _fail, done, error)
        else:
            self.call_later(DISK_S, _succeed, done, result)
        return done

    def _guard(
        self, callback: Callable[..., Any], args: tuple[Any, ...], context: Context | None
    ) -> _Guarded | None:
        context = copy_context() if context is None else context
        place = context.get(_PLACE)
        return None if place is None else _Guarded(self, place, callback, args, context)


def _succeed(done: asyncio.Future[T], result: T) -> None:
    if not done.done():
        done.set_result(result)


def _fail(done: asyncio.Future[Any], error: Exception) -> None:
    if not done.done():
        done.set_exception(error)
