"""What is counted, as plain numbers that their owners keep and whoever shows them pulls.

A subject counts as it works, and hands its metrics out as `metrics`; what makes the subjects puts them into a
`Registry`. Nobody is told of a change: counting is an addition, and what is a length or kept by an index is
read when somebody asks. Reading must not depend on how many tasks or nodes there are.
"""

from __future__ import annotations

import itertools
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
LABELLED_MAX = 256  # label values of one metric: states and reasons are tens, what users name is no label
OTHER = "other"  # all that comes after these
_NAME = re.compile(r"[a-z][a-z0-9_]*")

Labels = tuple[str, ...]  # values, in the order of the metric's label names


class Sample(NamedTuple):
    """One number of a metric; `suffix` ends its name (a histogram's `_bucket`, `_sum`, `_count`)."""

    suffix: str
    labels: Mapping[str, str]
    value: float


class Metric(Protocol):
    """Names are words with underscores, the unit last (`_seconds`, `_bytes`), `_total` for counters."""

    @property
    def name(self) -> str: ...
    @property
    def help(self) -> str: ...
    @property
    def kind(self) -> str: ...
    def samples(self) -> Iterator[Sample]: ...


class Counter:
    """How often something has happened; only ever more."""

    __slots__ = ("help", "name", "value")
    kind = COUNTER

    def __init__(self, name: str, help: str) -> None:
        self.name = name
        self.help = help
        self.value = 0.0

    def add(self, count: float = 1.0) -> None:
        self.value += count

    def samples(self) -> Iterator[Sample]:
        yield Sample("", {}, self.value)


class LabelledCounter:
    """A counter for each value of one label; those of `known` are there from the beginning. Past
    `LABELLED_MAX` values the rest are counted as `OTHER`."""

    __slots__ = ("_counts", "help", "label", "name")
    kind = COUNTER

    def __init__(self, name: str, help: str, label: str, known: Sequence[str] = ()) -> None:
        self.name = name
        self.help = help
        self.label = label
        self._counts = dict.fromkeys(known, 0.0)

    def add(self, value: str, count: float = 1.0) -> None:
        if value not in self._counts and len(self._counts) >= LABELLED_MAX:
            value = OTHER
        self._counts[value] = self._counts.get(value, 0.0) + count

    def samples(self) -> Iterator[Sample]:
        for value, count in self._counts.items():
            yield Sample("", {self.label: value}, count)


class Gauge:
    """What is so at the moment: `read` says it when it is asked for."""

    __slots__ = ("_read", "help", "name")
    kind = GAUGE

    def __init__(self, name: str, help: str, read: Callable[[], float]) -> None:
        self.name = name
        self.help = help
        self._read = read

    def samples(self) -> Iterator[Sample]:
        yield Sample("", {}, self._read())


class LabelledGauge:
    """What is so at the moment for each combination of label values: as `read` says it, and 0 for those of
    `known` that it leaves out: who keeps numbers takes the last one for true until another comes."""

    __slots__ = ("_known", "_read", "help", "labels", "name")
    kind = GAUGE

    def __init__(
        self,
        name: str,
        help: str,
        labels: Sequence[str],
        read: Callable[[], Mapping[Labels, float]],
        known: Sequence[Labels] = (),
    ) -> None:
        self.name = name
        self.help = help
        self.labels = tuple(labels)
        self._read = read
        self._known = dict.fromkeys(known, 0.0)

    def samples(self) -> Iterator[Sample]:
        for values, value in {**self._known, **self._read()}.items():
            yield Sample("", dict(zip(self.labels, values, strict=True)), value)


class Histogram:
    """How large what happened was: counts of what was at most as large as each of `bounds`, ascending."""

    __slots__ = ("_bounds", "_counts", "help", "name", "sum")
    kind = HISTOGRAM

    def __init__(self, name: str, help: str, bounds: Sequence[float]) -> None:
        self.name = name
        self.help = help
        self.sum = 0.0
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)  # the last: larger than all bounds

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """Returns how often it was observed."""
        return sum(self._counts)

    def samples(self) -> Iterator[Sample]:
        names = (*(f"{bound:g}" for bound in self._bounds), "+Inf")
        for name, count in zip(names, itertools.accumulate(self._counts), strict=True):
            yield Sample("_bucket", {"le": name}, count)
        yield Sample("_sum", {}, self.sum)
        yield Sample("_count", {}, self.count)


class Renamed:
    """A metric under another name: others may know it by one of theirs."""

    __slots__ = ("_metric", "help", "kind", "name")

    def __init__(self, name: str, help: str, metric: Metric) -> None:
        self.name = name
        self.help = help
        self.kind = metric.kind
        self._metric = metric

    def samples(self) -> Iterator[Sample]:
        return self._metric.samples()


class Registry:
    """The metrics of several subjects, in the order in which they were given."""

    def __init__(self, *of_subjects: Sequence[Metric]) -> None:
        self._metrics: dict[str, Metric] = {}
        for metrics in of_subjects:
            self.add(metrics)

    def add(self, metrics: Sequence[Metric]) -> None:
        """A name that is there already, or is none, is a mistake of ours."""
        for metric in metrics:
            assert _NAME.fullmatch(metric.name), metric.name
            assert metric.name not in self._metrics, metric.name
            self._metrics[metric.name] = metric

    def __iter__(self) -> Iterator[Metric]:
        return iter(self._metrics.values())

    def __getitem__(self, name: str) -> Metric:
        """Errors: `KeyError`."""
        return self._metrics[name]

    def total(self, name: str, **labels: str) -> float:
        """Returns the sum of a counter's or gauge's samples that have these labels; KeyError: no such one."""
        wanted = labels.items()
        return sum(s.value for s in self._metrics[name].samples() if wanted <= s.labels.items())

    def by(self, name: str, label: str) -> dict[str, float]:
        """Returns the sums of a counter's or gauge's samples by one label; KeyError: no such metric."""
        found: dict[str, float] = {}
        for sample in self._metrics[name].samples():
            value = sample.labels[label]
            found[value] = found.get(value, 0.0) + sample.value
        return found
