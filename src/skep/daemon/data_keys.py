"""The swarm's data keys on this manager: what the leader tells, and what its own lead finds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from skep.daemon.keys import KeyFiles
from skep.rpc.messages import DataKeys, HasDataKeys
from skep.rpc.messages.data_keys import digests_of
from skep.runtime.errors import SkepError
from skep.runtime.supervise import cancel_and_wait, in_thread
from skep.store.sealed import SealedStore

log = structlog.get_logger()

RETRY_S = 1.0  # after a disk that was full


class StoreKeys:
    """The keys that seal and open this manager's store; fulfils `manager.resealing.HeldKeys`."""

    def __init__(self, files: KeyFiles, store: SealedStore) -> None:
        self._files = files
        self.store = store

    @property
    def keys(self) -> tuple[bytes, ...]:
        return self._files.keys

    @property
    def opening(self) -> tuple[bytes, ...]:
        return self._files.opening

    async def lead(self, leads: bool) -> None:
        await in_thread(self._files.lead, leads)

    async def keep(self, keys: Sequence[bytes], unlock_key: str | None = None) -> None:
        """Errors: `Invalid` (disk full), `Corrupt`."""
        await in_thread(self._files.keep, keys, unlock_key)
        self.store.use(self._files.sealer)


class DataKeyKeeper:
    """Keeps what the leader tells. `changed` is called after each word that was followed; `say` tells the
    leader what there is now."""

    def __init__(
        self, files: KeyFiles, changed: Callable[[], None], say: Callable[[HasDataKeys], None]
    ) -> None:
        self._files = files
        self._changed = changed
        self._say = say
        self._told: DataKeys | None = None  # the latest word, which is all that counts
        self._work: asyncio.Task[None] | None = None
        self._is_stopped = False

    def begin(self) -> None:
        """Words are followed from now on, as they are before the first `stop`."""
        self._is_stopped = False

    def told(self, said: DataKeys) -> None:
        """The leader's word; it says it again as long as it does not hear that it is so."""
        if self._is_stopped:
            return
        self._told = said
        if self._work is None or self._work.done():
            self._work = asyncio.ensure_future(self._follow())

    async def stop(self) -> None:
        """Nothing is written when this returns, and after it: the files may go."""
        self._is_stopped, self._told = True, None
        await cancel_and_wait(self._work)

    async def _follow(self) -> None:
        while self._told is not None:
            said, self._told = self._told, None
            try:
                if await in_thread(self._files.take_told, said.keys, said.unlock_key):
                    # Also where the files were so already: what they were written for may have failed then.
                    self._changed()
                    log.info("data_keys.kept", count=len(said.keys))
            except SkepError as error:
                log.warning("data_keys.not_kept", error=str(error))
                await asyncio.sleep(RETRY_S)
                continue
            self.say()

    def say(self) -> None:
        """Tells the leader what is there; nothing where this is no manager any more, or not yet."""
        if self._files.keys:
            self._say(HasDataKeys(digests_of(self._files.keys)))
