"""Whose word this node takes: of each history of the store, nobody's who led before the newest leader known.

A leader that was suspended goes on with what it knew, for as long as it takes until the store refuses it.
Its session, its tasks and its goodbyes are of before, and must not end what came later.

It outlasts a restart of skepd: a node that comes back may find just that leader first. A node that has not
heard of the newer one has nothing of the newer one's to lose, so what it remembers itself is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from skep.rpc.messages import Lead

# Histories that are remembered: one more with each restored backup or forced new cluster. Which of them is
# the later one nobody can tell but the operator who made it; nodes follow where their managers are.
INCARNATIONS_MAX = 8


class LeadFence:
    """`leads` are the newest revisions known, by incarnation; `changed` hears of them when there is a newer
    one, to remember it."""

    def __init__(
        self, leads: Mapping[str, int] | None = None, changed: Callable[[dict[str, int]], None] | None = None
    ) -> None:
        self._leads = dict(leads or {})
        self._changed = changed

    def admits(self, lead: Lead | None) -> bool:
        """False for a lead older than one that was followed. An earlier skep does not say whose word it
        is."""
        return lead is None or lead.revision >= self._leads.get(lead.incarnation, 0)

    def follow(self, lead: Lead | None) -> None:
        """A session has begun. Errors: `changed`'s."""
        if lead is None or self._leads.get(lead.incarnation) == lead.revision:
            return
        self._leads.pop(lead.incarnation, None)
        self._leads[lead.incarnation] = lead.revision  # the latest is the last
        for oldest in list(self._leads)[:-INCARNATIONS_MAX]:
            del self._leads[oldest]
        if self._changed is not None:
            self._changed(dict(self._leads))
