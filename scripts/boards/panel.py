"""What a board is here: panels with a query for each database, before Grafana's words for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

PROMETHEUS, INFLUX = "prometheus", "influx"
SOURCES = (PROMETHEUS, INFLUX)


class Look(Enum):
    """How a panel shows what its queries give: the last number, lines over time, or rows of now."""

    STAT = (4, 4)
    LINES = (12, 8)
    TABLE = (24, 9)

    @property
    def width(self) -> int:
        """Returns columns of Grafana's grid, which has 24."""
        return self.value[0]

    @property
    def height(self) -> int:
        return self.value[1]


@dataclass(frozen=True)
class Query:
    """`text` in the database's language, with Grafana's variables in it; `name`: what a series is called (for
    Prometheus with {{label}}, for InfluxDB with $tag_NAME), empty in tables."""

    text: str
    name: str = ""


@dataclass(frozen=True)
class Panel:
    """Without queries for a database, that one's board does not have the panel. `unit` is Grafana's."""

    title: str
    look: Look
    prometheus: Sequence[Query] = ()
    influx: Sequence[Query] = ()
    unit: str = "short"
    says: str = ""

    def queries(self, source: str) -> Sequence[Query]:
        return self.prometheus if source == PROMETHEUS else self.influx


@dataclass(frozen=True)
class Choice:
    """What is chosen on a board, as $name in queries: `query` gives values, `regex` picks value and text."""

    name: str
    label: str
    query: str
    regex: str = ""


@dataclass(frozen=True)
class Board:
    name: str  # of its files
    title: str
    says: str
    panels: Sequence[Panel]
    prometheus: Sequence[Choice] = ()
    influx: Sequence[Choice] = ()
    refresh: str = "10s"

    def choices(self, source: str) -> Sequence[Choice]:
        return self.prometheus if source == PROMETHEUS else self.influx

    def panels_of(self, source: str) -> list[Panel]:
        return [panel for panel in self.panels if panel.queries(source)]
