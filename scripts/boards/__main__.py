"""Writes the boards to where the package has them."""

from __future__ import annotations

from pathlib import Path

from . import managers, node, service, swarm, swarm2k
from .build import text_of
from .panel import SOURCES

BOARDS = (swarm2k.BOARD, swarm.BOARD, service.BOARD, node.BOARD, managers.BOARD)
KEPT = Path(__file__).parents[2] / "src/skep/monitor/grafana"


def files() -> dict[str, str]:
    """Returns the boards' texts by the names of their files."""
    return {f"{board.name}-{source}.json": text_of(board, source) for board in BOARDS for source in SOURCES}


if __name__ == "__main__":
    for name, text in files().items():
        (KEPT / name).write_text(text)
