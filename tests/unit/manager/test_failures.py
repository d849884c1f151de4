"""Which nodes have failed a service lately."""

from __future__ import annotations

from msgspec.structs import replace

from skep.manager.failures import FAILURES_WINDOW_S, Failures
from skep.model.states import FAILED
from skep.store.view import View
from tests.unit.builders import add_task

TASK = add_task(View(), "t", "n", 1, observed=FAILED)


def test_what_an_earlier_version_failed_for_says_nothing_of_the_newest() -> None:
    """A mistyped image that was put right went to the one node that had not tried it."""
    failures, key = Failures(), (TASK.service_id, TASK.node_id)
    wrong, right = replace(TASK, spec_version=1), replace(TASK, spec_version=2)
    failures.add(wrong, 0.0)
    failures.add(wrong, 1.0)
    assert failures.counts(lambda _: 1) == {key: 2}
    assert failures.counts(lambda _: 2) == {}, "none of it has failed yet"
    failures.add(right, 2.0)
    failures.add(wrong, 3.0)  # one of before that ends late
    assert failures.counts(lambda _: 2) == {key: 1}
    assert failures.counts(lambda _: None) == {}
    failures.forget_old(2.0 + FAILURES_WINDOW_S)
    assert failures.counts(lambda _: 2) == {}
