"""Grafana's boards as they are committed: what the generator makes, and what Grafana's SDK reads."""

from __future__ import annotations

import json

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from scripts.boards.__main__ import BOARDS, KEPT, files
from scripts.boards.panel import INFLUX, PROMETHEUS, SOURCES

from skep.monitor import grafana

MADE = files()
SWARM2K = (
    *("Swarm Nodes", "Swarm Running Tasks", "Tasks by Status", "Masters CPU Avg."),
    *("CPU usage", "MEM usage", "Masters MEM Avg."),
)


def test_what_is_committed_is_what_is_made() -> None:
    kept = {path.name: path.read_text() for path in KEPT.glob("*.json")}
    assert kept == MADE, "run: PYTHONPATH=src .venv/bin/python -m scripts.boards"
    assert {**grafana.boards(PROMETHEUS), **grafana.boards(INFLUX)} == MADE


@pytest.mark.parametrize("name", MADE)
def test_the_sdk_reads_it_and_says_the_same(name: str) -> None:
    register_default_plugins()
    board = json.loads(MADE[name])
    assert json.loads(JSONEncoder().encode(Dashboard.from_json(board))) == board


@pytest.mark.parametrize("name", MADE)
def test_all_that_is_asked_has_a_place_a_name_and_a_source(name: str) -> None:
    board = json.loads(MADE[name])
    assert board["schemaVersion"] == 42
    assert board["uid"] == "skep-" + name.removesuffix(".json")
    source = name.removesuffix(".json").rpartition("-")[2]
    uid = {PROMETHEUS: "skep-prometheus", INFLUX: "skep-influxdb"}[source]
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        refs = [target["refId"] for target in panel["targets"]]
        assert refs == ["A", "B", "C"][: len(refs)] != []
        assert {each["datasource"]["uid"] for each in (panel, *panel["targets"])} == {uid}
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    choices = board.get("templating", {}).get("list", [])
    assert {each["datasource"]["uid"] for each in choices} <= {uid}


def test_swarm2k_has_the_seven_panels_for_both() -> None:
    for source in SOURCES:
        board = json.loads(MADE[f"swarm2k-{source}.json"])
        assert tuple(panel["title"] for panel in board["panels"]) == SWARM2K
        assert board["refresh"] == "5s"


def test_no_query_goes_by_host_names() -> None:
    """They are not unique: 178 were shared in Swarm3k."""
    for board in BOARDS:
        for source in SOURCES:
            for panel in board.panels_of(source):
                for query in panel.queries(source):
                    if "hostname" in query.text:
                        assert "node_id" in query.text, query.text
