"""Whether nodes that are not heard of may be given up, and their tasks run elsewhere. Pure:
`decide(sight, hold, now) -> Verdict`.

One node that is silent is dead, as far as anybody can tell, and its tasks are replaced within seconds, as
in Docker. Where most of the nodes are, it is more likely that the leader is the one who is cut off, and what
it would start again elsewhere still runs where it cannot see it. Then the other managers are asked whom they
see: nodes that have lost their leader come to them. Kubernetes' controller for the life of nodes has the same
rule, and its numbers are taken where there is no reason for others.
"""

from __future__ import annotations

from enum import Enum

from msgspec import Struct

UNHEALTHY = (
    0.55  # Kubernetes' --unhealthy-zone-threshold: three managers go on without one, a pair without one
)
# So few are given up all the same where no other manager sees them: three machines of five on one power strip
# die together now and then, and whoever has so few machines cannot wait for them.
FEW = 4
# What a node needs to come to another manager: it notices the leader's silence up to a period after the
# leader noticed its own, tries the managers it knows, and some of those are not there.
ASK_BEATS = 2
HOLD_S = 60.0  # a switch that is started again is back within a minute
# Where nobody can say whether the leader is cut off, one node goes (Kubernetes' --node-eviction-rate, 0.1
# nodes a second), then two, four, and so on. If the leader is wrong, most that comes back does so during the
# first steps, when little is started twice; if it is right, a thousand nodes take 100 s, and not three hours.
EVICT_EVERY_S = 10.0
HAND_OVER_EVERY_S = 600.0  # two managers that are each cut off from others must not hand over in turns


class Sight(Struct, frozen=True):
    """What a leader sees of its nodes. `missing`: not heard of for long, those given up since it holds too;
    `elsewhere`: how many of them the manager has heard of lately that has heard of most. `others`: managers
    that answer; `answered`: how many of them have said whom they see. `doubt`: why its own word cannot be
    trusted, where it knows that."""

    here: int
    missing: int
    elsewhere: int = 0
    others: int = 0
    answered: int = 0
    heartbeat_s: float = 5.0
    doubt: str = ""


class Hold(Struct, frozen=True):
    """Since when nothing, or little, is given up; when a node last was, and how often some were since then;
    when the lead was last handed over for the same reason. None: not. Times are the event loop's."""

    since: float | None = None
    evicted_at: float | None = None
    steps: int = 0
    handed_over_at: float | None = None


class EvictionAct(Enum):
    EVICT = "evict"  # all that are due
    EVICT_SOME = "evict some"
    HOLD = "hold"
    HAND_OVER = "hand over"  # another manager is to lead; nothing is given up


class Verdict(Struct, frozen=True):
    """`why` nodes are held, for people; empty where they are not. `some`: how many may go, where it is not
    all."""

    act: EvictionAct
    why: str = ""
    some: int = 0


def is_cut_off(sight: Sight) -> bool:
    """True where the leader has to doubt that the nodes are gone which it does not hear."""
    return bool(sight.doubt) or sight.missing > UNHEALTHY * (sight.here + sight.missing)


def decide(sight: Sight, hold: Hold, now: float) -> Verdict:
    """Returns what may be done about nodes that are due. Nodes that another manager sees are never given up:
    the caller leaves them out."""
    if not is_cut_off(sight):
        return Verdict(EvictionAct.EVICT)
    since = now if hold.since is None else hold.since
    lately = hold.handed_over_at is not None and now - hold.handed_over_at < HAND_OVER_EVERY_S
    may_hand_over = sight.others > 0 and not lately
    if sight.doubt:
        return Verdict(EvictionAct.HAND_OVER if may_hand_over else EvictionAct.HOLD, sight.doubt)
    why = f"this manager hears nothing of {sight.missing} of {sight.here + sight.missing} nodes"
    if sight.elsewhere:
        why += f", another one sees {sight.elsewhere} of them"
    if sight.elsewhere > sight.here and may_hand_over:
        return Verdict(EvictionAct.HAND_OVER, why)
    if sight.others and now - since < ASK_BEATS * sight.heartbeat_s:
        return Verdict(EvictionAct.HOLD, why)
    if sight.missing <= FEW:
        return Verdict(EvictionAct.EVICT)
    if now - since < HOLD_S:
        return Verdict(EvictionAct.HOLD, why)
    if sight.answered and not sight.elsewhere:
        # Nodes that had only lost this leader would have come to the others by now.
        return Verdict(EvictionAct.EVICT)
    if hold.evicted_at is not None and now - hold.evicted_at < EVICT_EVERY_S:
        return Verdict(EvictionAct.HOLD, why)
    return Verdict(EvictionAct.EVICT_SOME, why, some=2**hold.steps)
