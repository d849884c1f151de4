"""A term of a leader's for what is tried alone."""

from __future__ import annotations

from skep.manager.events import EventHub
from skep.manager.term import Term
from skep.runtime.clock import LoopClock
from skep.store.interfaces import Fence, Store
from skep.store.memory import MemoryState, MemoryStore
from skep.store.view import View
from tests.unit.builders import new_ids


def term_of(store: Store, fence: Fence, view: View) -> Term:
    clock = LoopClock(0)
    return Term(store, fence, view, clock, new_ids(), EventHub(clock))


def term_for(view: View) -> Term:
    """Of a leader whose store nobody looks at."""
    return term_of(MemoryStore(MemoryState()), Fence("/leader", 1), view)
