"""The leader's change of the data key, while everything runs, where the swarm's record wants another one.

    1. A new key is made and handed to the managers: they have it on their disks, and open with it.
    2. Once every manager that is here has it, and a majority does, the swarm's record is written anew, sealed
       with it. From then on it is in force: a manager that cannot open the record cannot lead.
    3. The lead ends. Who leads next goes by the key that opens the record, seals all else anew with it
       (`resealing`), and has every manager keep that key alone.

A crash before 2 leaves a key that has sealed nothing, which the next leader drops; one after 2 leaves the
rest to the next leader, which has both keys, for one of any majority has. A manager that was away is told
the keys in its first session, and cannot lead before: it could not even read who the swarm is.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Sequence
from enum import Enum

import structlog
from msgspec import Struct
from msgspec.structs import replace

from skep.manager.confirmed_commit import commit_changed
from skep.manager.dispatcher.sessions import Sessions
from skep.manager.quorum import is_to_manage
from skep.manager.resealing import HeldKeys
from skep.manager.term import Term
from skep.rpc.messages import DATA_KEYS, DataKeys, HasDataKeys, Register
from skep.rpc.messages.data_keys import digests_of
from skep.runtime.errors import Conflict, Corrupt, Invalid, OutcomeUnknown, Unavailable
from skep.store import codec
from skep.store.interfaces import Put
from skep.store.seal import KEY_BYTES, Sealer
from skep.store.view import View

log = structlog.get_logger()

LOOK_S = 1.0  # how often a manager is told again that has not said that it has the keys
# From the order to the change, for what is ordered next to be the same change, and for who ordered it to read
# what came of it: the lead is away for a moment at the end.
REST_S = 3.0
REMIND_S = 60.0  # how often the log says what is waited for, after the first time


class KeyAct(Enum):
    """What the leader does next."""

    NOTHING = "nothing"
    WAIT = "wait"
    MAKE = "make"  # a new key, to hand out
    SEAL = "seal"  # the swarm's record with it


class KeyStep(Struct, frozen=True):
    """`why` says what is waited for, to people."""

    act: KeyAct
    why: str = ""


def decide(
    view: View,
    knowing: Collection[str],
    here: Collection[str],
    having: Collection[str],
    made_for: int,
    is_settled: bool,
) -> KeyStep:
    """Returns the next step. `knowing` are managers that keep what they are told, `here` those with a session
    now, or whose etcd takes part, `having` those with the present keys on their disks, the leader among them;
    `made_for` is the order that the new key among these was made for. `is_settled`: there is no
    older key but the one in force."""
    cluster = view.cluster
    if cluster is None or cluster.data_key_wanted <= cluster.data_key_done:
        return KeyStep(KeyAct.NOTHING)
    members = [member.node_id for member in view.members]
    leaving = [node_id for node_id in members if not is_to_manage(view, node_id)]
    if leaving:
        return KeyStep(KeyAct.WAIT, f"managers are on their way out: {', '.join(leaving)}")
    unknowing = [node_id for node_id in members if node_id not in knowing]
    earlier = [node_id for node_id in unknowing if node_id in here]
    if earlier:
        return KeyStep(
            KeyAct.WAIT,
            "managers have an earlier skep, which could open nothing after a change:"
            f" {', '.join(earlier)}; update skep on them, or demote them (docker node demote)",
        )
    if unknowing:
        return KeyStep(
            KeyAct.WAIT,
            "managers are not there to say whether they have an earlier skep, which could open nothing after"
            f" a change: {', '.join(unknowing)}; start them, or demote them (docker node demote)",
        )
    if not is_settled:
        return KeyStep(
            KeyAct.WAIT,
            "an older key could not be given up when this lead began (the log says why: store.not_resealed,"
            " data_keys.not_kept)",
        )
    if made_for != cluster.data_key_wanted:
        return KeyStep(KeyAct.MAKE)
    late = [node_id for node_id in members if node_id in here and node_id not in having]
    voters = {member.node_id for member in view.members if not member.is_learner}
    if late or 2 * len(voters.intersection(having)) <= len(voters):
        return KeyStep(
            KeyAct.WAIT, f"it is not on the disks of enough managers yet (late: {', '.join(late)})"
        )
    return KeyStep(KeyAct.SEAL)


class DataKeyChange:
    """Works for one leader; `held` is None for a manager that seals nothing (simulation)."""

    def __init__(
        self,
        held: HeldKeys | None,
        term: Term,
        sessions: Sessions,
        own_id: str,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._held = held
        # What the lead began with: whatever else there is was made in it.
        self._settled = held.keys if held is not None else ()
        self._view = term.view
        self._fence = term.fence
        self._sessions = sessions
        self._own_id = own_id
        self._random_bytes = random_bytes
        self._knowing: set[str] = set()
        self._digests: dict[str, list[bytes]] = {}  # of what a manager has, by its own word in its session
        self._new: tuple[int, bytes] | None = None  # the key that was made, and the order that it is for
        self._wake = asyncio.Event()
        self._wanted_since: float | None = None
        self.why = ""  # what is waited for, or was wrong with the latest step; for people
        self._waits_since: float | None = None
        self._remind_at = 0.0

    @property
    def why_late(self) -> str:
        """Returns `why` where that takes longer than it should; else an empty text."""
        now = asyncio.get_running_loop().time()
        return self.why if self._waits_since is not None and now - self._waits_since >= REST_S else ""

    def began(self, node_id: str, said: Register) -> None:
        """A session has begun: what the node has, it says anew."""
        self._digests.pop(node_id, None)
        if self._view.is_member(node_id):
            self._wake.set()

    def has(self, node_id: str, has: HasDataKeys) -> None:
        """A manager says what it has on its disk."""
        if self._view.is_member(node_id):
            self._digests[node_id] = has.digests
            self._wake.set()

    def look(self) -> None:
        """Another key may be wanted, or the managers are others."""
        self._wake.set()

    def for_new(self, node_id: str) -> Sequence[bytes]:
        """Returns the keys that a node is given which becomes a manager. Errors: `Conflict` where it would
        open nothing after the change that is under way."""
        self._digests.pop(node_id, None)  # it begins anew
        keys = self._held.keys if self._held is not None else ()
        if len(keys) > 1 and not self._sessions.understands(node_id, DATA_KEYS):
            raise Conflict(
                "the data key is being changed, which a manager of an earlier skep does not follow"
            )
        return keys

    async def run(self) -> None:
        """Runs until a new key is in force, and the lead is to begin anew. Errors: `Deposed`."""
        assert self._held is not None
        while True:
            try:
                if await self._look(self._held):
                    return
            except (
                Conflict,
                Unavailable,
                Invalid,
                Corrupt,
            ) as error:  # written meanwhile, etcd is away, a disk
                self.why = str(error)
            self._remind()
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    # Inside

    async def _look(self, held: HeldKeys) -> bool:
        """Takes a step; returns whether a new key is in force."""
        self._tell(held)
        members = [member.node_id for member in self._view.members]
        wanted = digests_of(held.keys)
        step = decide(
            self._view,
            self._knowing | {self._own_id},
            {each for each in members if self._sessions.has(each) or each in self._view.reachable},
            {node_id for node_id in members if self._digests.get(node_id) == wanted} | {self._own_id},
            self._new[0] if self._new is not None and self._new[1] in held.keys else 0,
            len(self._settled) == 1,
        )
        self.why = step.why
        if not self._is_rested(step):
            return False
        if step.act is KeyAct.MAKE:
            cluster = self._view.cluster
            assert cluster is not None
            self._new = (cluster.data_key_wanted, self._random_bytes(KEY_BYTES))
            # This manager's files may not have followed yet: nobody is to find the new key in them plain.
            await held.keep((*self._settled, self._new[1]), cluster.unlock_key)
            self._wake.set()
        return step.act is KeyAct.SEAL and await self._seal(held)

    def _tell(self, held: HeldKeys) -> None:
        """Tells the managers that stay what they are to have, until they say that they have it."""
        cluster, wanted = self._view.cluster, digests_of(held.keys)
        unlock_key = cluster.unlock_key if cluster is not None else ""
        for member in self._view.members:
            node_id = member.node_id
            if node_id == self._own_id or not self._sessions.has(node_id):
                continue
            if not self._sessions.understands(node_id, DATA_KEYS):
                self._knowing.discard(node_id)
                continue
            self._knowing.add(node_id)
            if self._digests.get(node_id) != wanted and is_to_manage(self._view, node_id):
                self._sessions.send(node_id, DataKeys(list(held.keys), unlock_key, self._sessions.lead))

    async def _seal(self, held: HeldKeys) -> bool:
        """Puts the new key in force; True where the lead is to end, also where nobody knows whether it is."""
        cluster = self._view.cluster
        assert cluster is not None
        assert self._new is not None
        sealer = Sealer(self._new[1], older=held.opening)
        after = replace(cluster, data_key_done=cluster.data_key_wanted)
        put = Put(codec.CLUSTER_KEY, codec.encode_object(after))
        store = held.store.sealing_with(sealer)
        try:
            revision = await commit_changed(store, self._fence, put, cluster.version)
        except OutcomeUnknown as error:
            log.warning("data_key.in_doubt", error=str(error))
            return True
        # At once: what this leader writes of the record from now on must not be sealed with the one before.
        held.store.use(sealer)
        self._view.put_cluster(replace(after, version=revision))
        log.info("data_key.changed", managers=len(self._view.members))
        return True

    def _is_rested(self, step: KeyStep) -> bool:
        now = asyncio.get_running_loop().time()
        if step.act is KeyAct.NOTHING:
            self._wanted_since = None
        elif self._wanted_since is None:
            self._wanted_since = now
        return self._wanted_since is not None and now - self._wanted_since >= REST_S

    def _remind(self) -> None:
        """Says in the log what is waited for, where it takes longer than it should, and every minute then."""
        now = asyncio.get_running_loop().time()
        if not self.why:
            self._waits_since = None
            return
        if self._waits_since is None:
            self._waits_since, self._remind_at = now, now + REST_S
        if now >= self._remind_at:
            self._remind_at = now + REMIND_S
            log.warning("data_key.waits", reason=self.why)
