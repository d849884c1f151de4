"""Why a task is on its node rather than on another, as far as the present shows it. Pure.

The scheduler raises the lowest first: branch by branch of the spread preferences, then node by node. What the
swarm looked like when the task was placed is not kept.
"""

from __future__ import annotations

import numpy as np

from skep.model.constraint import is_spread
from skep.store.view import View

from . import explain
from .explain_nodes import Subject, fits_empty
from .filters import Filters
from .nodes import Mask, NodeTable

BRANCHES_MAX = 8  # of a preference that are named; the fullest and the emptiest say most
# What other tasks hold now was free, or not, when the task was placed: only lasting refusals are counted.
_PASSING = (explain.RESOURCES, explain.PORTS, explain.MAX_REPLICAS)


def why_there(view: View, table: NodeTable, subject: Subject, node_id: str) -> list[str]:
    """Returns sentences, from the first preference down to the node; none for a node that is gone."""
    row = table.rows.get(node_id)
    if row is None:
        return []
    filters = Filters(table, subject.service_id, subject.template, subject.demand)
    fitting = (fits_empty(node, subject.demand) for node in table.nodes)
    suits = np.fromiter(fitting, dtype=bool, count=len(table.ids))
    for phrase, mask in filters.steps:
        if phrase not in _PASSING:
            suits &= mask
    suits[row] = True
    own = table.own(subject.service_id)
    sentences = []
    placement = subject.template.spec.placement
    for preference in placement.preferences if placement is not None else ():
        descriptor = preference.spread.spread_descriptor if preference.spread is not None else ""
        if is_spread(descriptor):
            labels = table.labels(descriptor)
            sentences.append(_of_branch(descriptor, labels, suits, own.tolist(), row))
            suits &= np.fromiter((each == labels[row] for each in labels), dtype=bool, count=len(labels))
    sentences.append(_of_node(table, suits, own.tolist(), row))
    return sentences


def _of_branch(descriptor: str, labels: list[str], suits: Mask, own: list[int], row: int) -> str:
    counts: dict[str, int] = {}
    for other in np.flatnonzero(suits).tolist():
        counts[labels[other]] = counts.get(labels[other], 0) + own[other]
    mine = labels[row]
    others = sorted((n, value) for value, n in counts.items() if value != mine)
    shown = others if len(others) <= BRANCHES_MAX else [*others[: BRANCHES_MAX - 1], others[-1]]
    rest = ", ".join(f"{value or 'no label'}: {n}" for n, value in shown) or "no other"
    more = f", {len(others) - len(shown)} more between" if len(others) > len(shown) else ""
    what = f"{descriptor} {mine}" if mine else f"the nodes without {descriptor}"
    return f"Spread over {descriptor}: {what} has {counts[mine]} of the service's tasks ({rest}{more})."


def _of_node(table: NodeTable, suits: Mask, own: list[int], row: int) -> str:
    others = [other for other in np.flatnonzero(suits).tolist() if other != row]
    total = int(table.tasks[row])
    here = f"As it is now, the node has {own[row]} of the service's tasks and {total} tasks in all"
    if not others:
        return f"{here}; no other node suits."
    counts = [own[other] for other in others]
    least, most = min(counts), max(counts)
    span = str(least) if least == most else f"{least} to {most}"
    if len(others) == 1:
        return f"{here}; the other node that suits has {span} of the service's."
    return f"{here}; the {len(others)} others that suit have {span} of the service's."
