"""Metrics in Prometheus' text format, by its own library, which nothing else knows.

No line has a time: Prometheus gives it the scrape's, and forgets a series that is not said again; of one with
a time it keeps the last value for five minutes, and after a change of leader all counts would be there twice.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import generate_latest

from skep.runtime.metrics import COUNTER, GAUGE, Metric

# Prometheus 3 takes no answer without a type; of this one all releases read all of it.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LABEL_TEXTS_MAX = 1 << 14  # two for each of 2,300 nodes, one for each of some thousand services: 3 MB
_TOTAL = "_total"
_PROCESS = ProcessCollector(registry=None)  # what the process takes, by the library's own names


class ManySamples(Struct, frozen=True):
    """A gauge, or counter, with very many samples, as (label values, value)."""

    name: str
    help: str
    labels: tuple[str, ...]
    samples: Sequence[tuple[tuple[str, ...], float]]
    kind: str = GAUGE


def exposed(metrics: Iterable[Metric]) -> bytes:
    """Returns the metrics, and what the process takes, as text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(metrics))
    registry.register(_PROCESS)
    return generate_latest(registry)


def exposed_many(families: Iterable[ManySamples]) -> bytes:
    """Returns families of thousands of samples as text: the library writes the labels of each once (it takes
    6 µs for a line), and values are put behind what it wrote as long as they are the same."""
    parts: list[str] = []
    for family in families:
        head, name, labels = _head(family.name, family.help, family.kind), family.name, family.labels
        parts.append(head)
        parts.extend(
            f"{name}{_labels(labels, values)} {float(value)!r}\n" for values, value in family.samples
        )
    return "".join(parts).encode()


class _Families:
    """What the library asks of a collector."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Family]:
        for metric in self._metrics:
            family = _family(metric.name, metric.help, metric.kind)
            for sample in metric.samples():
                family.add_sample(metric.name + sample.suffix, dict(sample.labels), sample.value)
            yield family


def _family(name: str, help: str, kind: str) -> Family:
    # The library writes a counter's `_total` itself.
    return Family(name.removesuffix(_TOTAL) if kind == COUNTER else name, help, kind)


def _text(name: str, help: str, kind: str, samples: Sequence[tuple[dict[str, str], float]]) -> str:
    family = _family(name, help, kind)
    for labels, value in samples:
        family.add_sample(name, labels, value)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Ready(family))
    return generate_latest(registry).decode()


class _Ready:
    def __init__(self, family: Family) -> None:
        self._family = family

    def collect(self) -> Iterator[Family]:
        yield self._family


def _head(name: str, help: str, kind: str) -> str:
    return _text(name, help, kind, ())


@functools.lru_cache(maxsize=LABEL_TEXTS_MAX)
def _labels(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    """Returns `{name="value",…}`."""
    text = _text("x", "", GAUGE, [(dict(zip(names, values, strict=True)), 0)])
    return text[text.rindex("\nx{") + 2 : text.rindex("}") + 1]
