"""Rules of routing that lead answers back by the node that their connection came by, as a tree. Pure.

The kernel asks its rules one after the other, for each packet that it routes: with one for each node, all of
the host's packets would pass thousands. So packets that are not the mesh's pass one of ours, and its own one
for each group of nodes, and those of their group. The tree stands behind the tables that all others use (the
last is at 32767), so that nobody's own rules are jumped over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from skep.network.marks import NUMBER_MASK, OURS, OURS_MASK
from skep.network.objects import ReturnRule

TABLES = 0x5A_0000  # the table of node 1 is one more; others use small numbers
MASK = OURS_MASK | NUMBER_MASK  # of marks, in rules for one node
_ENTRY = 7700  # before the main table, 32766
_GROUPS = 40_000  # behind the default table, 32767; a group's own rules have a number each, from the next on
_BITS = 6  # 64 nodes in a group: with 2,300, which are 36, as many rules are passed either way
_GROUP_MASK = OURS_MASK | NUMBER_MASK & ~((1 << _BITS) - 1)
_LAST = _GROUPS + 2 + (NUMBER_MASK >> _BITS)
_MAIN = 254


def return_rules(numbers: Iterable[int]) -> Iterator[ReturnRule]:
    """Yields the rules for these nodes, by their numbers in marks; none where there are none."""
    groups = set[int]()
    for number in numbers:
        group = number >> _BITS
        groups.add(group)
        yield ReturnRule(_GROUPS + 1 + group, OURS | number, MASK, table=TABLES + number)
    if not groups:
        return
    yield ReturnRule(_ENTRY, OURS, OURS_MASK, goto=_GROUPS)
    for group in sorted(groups):
        yield ReturnRule(_GROUPS, OURS | group << _BITS, _GROUP_MASK, goto=_GROUPS + 1 + group)
    # Who is of a node that is not known any more goes on as anybody.
    yield ReturnRule(_LAST, OURS, OURS_MASK, table=_MAIN)


def is_ours(mark: int, mask: int) -> bool:
    """Returns whether a rule for these marks is one of the mesh's, of this skep or an earlier one."""
    return mask & OURS_MASK == OURS_MASK and mark & OURS_MASK == OURS
