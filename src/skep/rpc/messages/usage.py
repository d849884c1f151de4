"""What a node's host and tasks take, said when the manager asks: never by itself."""

from __future__ import annotations

from msgspec import Struct

from skep.model.usage import HostUsage, TaskUsage

USAGE = "usage"  # a feature: the node measures when it is asked, the manager takes its answer

# In one message: 45 kB, which a line of 10 Mbit/s carries in 40 ms. No beat behind it is later than that.
TASKS_SAID_MAX = 1000


class UsageAsk(Struct, frozen=True, tag="usage-ask", omit_defaults=True):
    """How much of the node's host is used? And, with `tasks`, how much does each of its tasks take?"""

    number: int
    tasks: bool = False


class UsageSaid(Struct, frozen=True, tag="usage-said", omit_defaults=True):
    """What the node measured when it was asked with that number: `TASKS_SAID_MAX` tasks at a time, and `more`
    where others follow."""

    number: int
    host: HostUsage
    tasks: list[TaskUsage] = []
    more: bool = False
