"""Metrics in JSON: names, kinds and samples as their owners have them (`runtime.metrics`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import field

from skep.model.wire import Wire, always_empty_map, always_empty_text, always_zero_ratio
from skep.runtime.metrics import Metric


class SampleJson(Wire, frozen=True, kw_only=True):
    """One number; `Suffix` ends the metric's name (a histogram's `_bucket`, `_sum`, `_count`)."""

    suffix: str = field(default_factory=always_empty_text)
    labels: Mapping[str, str] = field(default_factory=always_empty_map)
    value: float = field(default_factory=always_zero_ratio)


class MetricJson(Wire, frozen=True, kw_only=True):
    """A metric with all its samples. `Kind`: counter, gauge, histogram."""

    name: str
    kind: str
    help: str
    samples: list[SampleJson]


class MetricsJson(Wire, frozen=True, kw_only=True):
    """All metrics of the manager that leads, and of its process, at one moment (RFC 3339)."""

    leader: str
    at: str
    metrics: list[MetricJson]


def metrics_json(metrics: Iterable[Metric]) -> list[MetricJson]:
    """Returns each metric as it is now."""
    return [
        MetricJson(
            name=metric.name,
            kind=metric.kind,
            help=metric.help,
            samples=[SampleJson(suffix=s.suffix, labels=s.labels, value=s.value) for s in metric.samples()],
        )
        for metric in metrics
    ]
