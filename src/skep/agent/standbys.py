"""The node's standby connections: idle ones to managers that do not lead, each with its TLS behind it.

When a leader dies all its nodes look for the next one at once, and their handshakes are most of what that
costs. So each opens them before, one at a time and at a time of its own, while it has a session. What a
session is begun with is given up here: to the session it is a connection like any other. Whether the node
still belongs to the swarm is decided when it registers, as ever.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog
from msgspec import Struct

from skep.agent.standby_plan import count_for, plan_standbys
from skep.rpc.interfaces import Connection, Handler
from skep.rpc.messages import StandbyWish
from skep.rpc.standby import HERE
from skep.runtime.errors import SkepError, Unsupported
from skep.runtime.supervise import cancel_and_wait

log = structlog.get_logger()

# A manager says that it is there as soon as it has read the first word, which is within two seconds where
# 2,300 nodes come at once. Who hears nothing goes on: the host may be gone, and nobody has told this one.
SIGN_S = 5.0
RETRY_MIN_S, RETRY_MAX_S = 10.0, 600.0  # after one that could not be opened, or ended by itself
LASTED_S = 60.0  # one that lived as long ended for another reason than that it was not wanted
END_S = 1.0  # for one that is being opened: a handshake that is broken off has uvloop complain
_NONE = StandbyWish()


class Opener(Protocol):
    """What opens connections to managers; `daemon.agent_runner.Line` does."""

    async def connect(self, address: str, handler: Handler) -> Connection: ...

    async def connect_standby(self, address: str, handler: Handler) -> Connection: ...


class _Failed(Struct, frozen=True):
    """When it may be tried again (loop time), and how long that wait was."""

    until: float
    wait_s: float


class Standbys:
    """Of one node. `now` is the wall clock, for certificates. All else is callbacks and one timer: thousands
    of simulated nodes share a loop."""

    def __init__(self, opener: Opener, now: Callable[[], float], rng: random.Random) -> None:
        self._opener = opener
        self._now = now
        self._rng = rng
        self._share = rng.random()
        self._held: dict[str, _Standby] = {}  # by manager's address, the oldest first
        self._failed: dict[str, _Failed] = {}
        self._wish = _NONE
        self._managers: list[str] = []
        self._own = ""  # the manager that the session is with
        self._has_session = False
        self._timer: asyncio.TimerHandle | None = None
        self._opening: asyncio.Task[None] | None = None
        self._epoch = 0  # of the certificate and trust

    def has(self, address: str) -> bool:
        """True where a connection to that manager waits."""
        return address in self._held

    async def connect(self, address: str, handler: Handler) -> Connection:
        """Returns a connection for a session: one that waited, or else a new one. Nothing else is opened
        until the session stands. Errors: `SkepError`, as the opener's."""
        self._has_session = False
        self._stop_timer()
        standby = self._held.pop(address, None)
        if standby is not None and standby.is_in_time(self._now()):
            self._failed.pop(address, None)
            return standby.use(handler)
        if standby is not None:
            standby.close()
        return await self._opener.connect(address, handler)

    def told(self, wish: StandbyWish | None, managers: Sequence[str], own: str) -> None:
        """The session stands, with the manager `own`; the leader says how many connections there should be,
        and `managers` are those that there are."""
        wish = wish or _NONE
        if self._has_session and (wish, managers, own) == (self._wish, self._managers, self._own):
            return
        self._wish, self._managers, self._own, self._has_session = wish, list(managers), own, True
        self._failed = {address: failed for address, failed in self._failed.items() if address in managers}
        self._plan()

    def renew(self) -> None:
        """The node's certificate or trust is new: no session begins by those of before."""
        self._epoch += 1
        self._drop_all()
        self._plan()

    async def close(self) -> None:
        """Ends all; nothing is opened any more."""
        self._has_session = False
        self._stop_timer()
        self._drop_all()
        if self._opening is not None:
            await asyncio.wait([self._opening], timeout=END_S)
            await cancel_and_wait(self._opening)
        self._drop_all()

    # Inside

    def _plan(self) -> None:
        wanted = count_for(self._wish.each, self._share)
        plan = plan_standbys(self._held, self._managers, self._own, wanted)
        for address in plan.to_close:
            self._held.pop(address).close()
        if not plan.to_open or self._wish.is_crowded or not self._has_session:
            self._stop_timer()
        elif self._timer is None and self._opening is None:
            loop = asyncio.get_running_loop()
            soonest = min(self._may_try(address) for address in plan.to_open)
            wait_s = max(0.0, soonest - loop.time()) + self._rng.random() * self._wish.within_s
            self._timer = loop.call_later(wait_s, self._open_next)

    def _open_next(self) -> None:
        self._timer = None
        wanted = count_for(self._wish.each, self._share)
        plan = plan_standbys(self._held, self._managers, self._own, wanted)
        now = asyncio.get_running_loop().time()
        ready = [address for address in plan.to_open if self._may_try(address) <= now]
        if ready:
            self._opening = asyncio.ensure_future(self._open(self._rng.choice(ready)))
        else:
            self._plan()

    async def _open(self, address: str) -> None:
        standby, epoch = _Standby(address, self._ended), self._epoch
        try:
            await self._opener.connect_standby(address, standby)
        except Unsupported as error:
            log.debug("standby.none", manager=address, reason=str(error))
            self._fail(address, RETRY_MAX_S)
        except SkepError as error:
            log.debug("standby.failed", manager=address, error=str(error))
            self._fail(address)
        else:
            if epoch != self._epoch or address in self._held:
                standby.close()
            elif standby.is_open:
                self._held[address] = standby
            else:
                self._fail(address)
        finally:
            self._opening = None
        self._plan()

    def _ended(self, standby: _Standby) -> None:
        """It was closed by the other end, or is dead."""
        if self._held.get(standby.address) is standby:
            del self._held[standby.address]
            if standby.age_s >= LASTED_S:
                self._failed.pop(standby.address, None)
            self._fail(standby.address)
            self._plan()

    def _fail(self, address: str, wait_s: float = 0.0) -> None:
        failed = self._failed.get(address)
        wait_s = wait_s or min(2 * failed.wait_s if failed is not None else RETRY_MIN_S, RETRY_MAX_S)
        until = asyncio.get_running_loop().time() + wait_s * (0.5 + self._rng.random())
        self._failed[address] = _Failed(until, wait_s)

    def _may_try(self, address: str) -> float:
        failed = self._failed.get(address)
        return failed.until if failed is not None else 0.0

    def _drop_all(self) -> None:
        held, self._held = self._held, {}
        for standby in held.values():
            standby.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Standby:
    """One connection: it waits, then is a session's; fulfils `rpc.interfaces.Handler`."""

    def __init__(self, address: str, ended: Callable[[_Standby], None]) -> None:
        self.address = address
        self._ended = ended
        self._since = asyncio.get_running_loop().time()
        self._connection: Connection | None = None
        self._handler: Handler | None = None  # from its use on
        self._sign: asyncio.TimerHandle | None = None  # until the manager has said that it is there

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    @property
    def age_s(self) -> float:
        return asyncio.get_running_loop().time() - self._since

    def is_in_time(self, now: float) -> bool:
        """True where it is open, and the certificate that the manager has shown is still one."""
        identity = self._connection.identity if self._connection is not None else None
        return identity is not None and identity.not_after > now

    def use(self, handler: Handler) -> Connection:
        """From now on it is the handler's."""
        assert self._connection is not None
        self._handler = handler
        self._sign = asyncio.get_running_loop().call_later(SIGN_S, self._give_up)
        handler.connected(self._connection)
        return self._connection

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    # What the connection brings

    def connected(self, connection: Connection) -> None:
        self._connection = connection

    def frame(self, data: bytes) -> None:
        if self._sign is not None:
            self._sign.cancel()
            self._sign = None
            if data == HERE:
                return
        if self._handler is not None:
            self._handler.frame(data)
        else:
            self.close()  # nobody has asked it anything

    def closed(self, reason: str) -> None:
        self._connection = None
        if self._sign is not None:
            self._sign.cancel()
            self._sign = None
        if self._handler is not None:
            self._handler.closed(reason)
        else:
            self._ended(self)

    def _give_up(self) -> None:
        self._sign = None
        log.warning("standby.silent", manager=self.address, silent_s=SIGN_S)
        if self._connection is not None:
            self._connection.close()
