"""What a candidate counts of who leads."""

from __future__ import annotations

from skep.store import codec
from skep.store.election import Campaign
from skep.store.memory import MemoryState, MemoryStore


async def test_changes_of_leader_are_counted_by_who_looks_on() -> None:
    state = MemoryState()
    first, second, third = (Campaign(MemoryStore(state), codec.LEADER_KEY, name) for name in "abc")
    (changes,) = third.metrics

    def count() -> float:
        return sum(sample.value for sample in changes.samples())

    lead = await first.win()
    for _ in range(3):
        assert await third.look(stand=False) is None
    assert (third.holder, count()) == ("a", 0), "the first one is no change"
    await lead.resign()
    assert await third.look(stand=False) is None
    assert (third.holder, count()) == ("", 0)
    lead = await second.win()
    assert await third.look(stand=False) is None
    assert (third.holder, count()) == ("b", 1)
    await lead.resign()
    lead = await third.win()
    assert (third.holder, count()) == ("c", 2)
    await lead.resign()
