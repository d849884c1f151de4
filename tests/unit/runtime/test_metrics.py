"""Counters that their owners keep, and who pulls them."""

from __future__ import annotations

import pytest

from skep.runtime.metrics import (
    LABELLED_MAX,
    OTHER,
    Counter,
    Gauge,
    Histogram,
    LabelledCounter,
    LabelledGauge,
    Registry,
    Sample,
)


def test_a_gauge_is_read_when_it_is_asked_for() -> None:
    held = [1, 2]
    gauge = Gauge("skep_held", "Things.", lambda: len(held))
    held.append(3)
    assert list(gauge.samples()) == [Sample("", {}, 3)]


def test_states_that_nobody_is_in_are_said_as_none() -> None:
    now = {("ready", "active"): 2, ("ready", "drain"): 1}
    gauge = LabelledGauge("skep_nodes", "", ("state", "availability"), lambda: now, [("down", "active")])
    registry = Registry([gauge])
    assert registry.by("skep_nodes", "state") == {"down": 0, "ready": 3}
    assert registry.total("skep_nodes", state="ready", availability="drain") == 1
    assert registry.total("skep_nodes") == 3
    now.clear()
    assert registry.by("skep_nodes", "state") == {"down": 0}


def test_values_of_a_label_are_bounded() -> None:
    counter = LabelledCounter("skep_failures_total", "", "reason", ("full",))
    for n in range(LABELLED_MAX + 50):
        counter.add(f"reason {n}")
    counter.add("full", 2)
    registry = Registry([counter])
    found = registry.by("skep_failures_total", "reason")
    assert len(found) == LABELLED_MAX + 1
    assert (found["full"], found[OTHER]) == (2, 51)


def test_buckets_count_all_that_is_as_large_or_smaller() -> None:
    histogram = Histogram("skep_commit_seconds", "", (0.1, 1, 10))
    for value in (0.05, 0.1, 0.5, 20):
        histogram.observe(value)
    buckets = {s.labels["le"]: s.value for s in histogram.samples() if s.suffix == "_bucket"}
    assert buckets == {"0.1": 2, "1": 3, "10": 3, "+Inf": 4}
    assert histogram.sum == pytest.approx(20.65)
    assert [s.value for s in histogram.samples() if s.suffix == "_count"] == [4]


def test_two_of_one_name_are_a_mistake() -> None:
    counter = Counter("skep_commits_total", "")
    counter.add()
    counter.add(2)
    registry = Registry([counter])
    assert registry.total("skep_commits_total") == 3
    assert [metric.name for metric in registry] == ["skep_commits_total"]
    for name in ("skep_commits_total", "skep-commits", "Commits"):
        with pytest.raises(AssertionError):
            registry.add([Counter(name, "")])
