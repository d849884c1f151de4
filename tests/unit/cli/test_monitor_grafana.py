"""`skep monitor grafana`: what it writes, and what it leaves alone."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from click.testing import CliRunner, Result

from skep.cli.main import main


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["monitor", "grafana", *map(str, arguments)])


def test_all_that_grafana_needs_is_written(tmp_path: Path) -> None:
    out = tmp_path / "a/b"
    done = run(
        "--out", out, "--prometheus", "http://p:9090", "--influx", "http://i:8086", "--database", "it's"
    )
    assert done.exit_code == 0, done.output
    sources = yaml.safe_load((out / "datasources/skep.yaml").read_text())["datasources"]
    assert [(each["uid"], each["type"], each["url"]) for each in sources] == [
        ("skep-prometheus", "prometheus", "http://p:9090"),
        ("skep-influxdb", "influxdb", "http://i:8086"),
    ]
    assert sources[1]["jsonData"]["dbName"] == "it's"
    (provider,) = yaml.safe_load((out / "dashboards/skep.yaml").read_text())["providers"]
    assert provider["options"]["path"] == "/etc/grafana/provisioning/dashboards/skep"
    uids = {each["uid"] for each in sources}
    boards = sorted((out / "dashboards/skep").iterdir())
    assert len(boards) == 10
    for board in boards:
        assert {panel["datasource"]["uid"] for panel in json.loads(board.read_text())["panels"]} <= uids
        assert str(board) in done.output
    assert f"cp -r {out}/." in done.output


def test_boards_of_what_is_named_alone(tmp_path: Path) -> None:
    assert run("--out", tmp_path, "--influx", "http://i:8086").exit_code == 0
    names = [path.name for path in (tmp_path / "dashboards/skep").iterdir()]
    assert len(names) == 5
    assert all(name.endswith("-influx.json") for name in names)


def test_what_is_of_somebody_else_stays(tmp_path: Path) -> None:
    foreign = tmp_path / "dashboards/skep/swarm-prometheus.json"
    foreign.parent.mkdir(parents=True)
    for text in ('{"uid": "mine"}', "{", "[]", '{"uid": 3}'):
        foreign.write_text(text)
        done = run("--out", tmp_path)
        assert done.exit_code == 1
        assert f"{foreign} is there already and not of skep's making" in done.output
        assert foreign.read_text() == text
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == [foreign]


def test_what_it_has_written_it_writes_again(tmp_path: Path) -> None:
    assert run("--out", tmp_path, "--prometheus", "http://old:1").exit_code == 0
    assert run("--out", tmp_path, "--prometheus", "http://new:1").exit_code == 0
    assert "http://new:1" in (tmp_path / "datasources/skep.yaml").read_text()
    assert not list(tmp_path.rglob("*.part"))


def test_what_is_no_url_is_refused(tmp_path: Path) -> None:
    done = run("--out", tmp_path / "x", "--prometheus", "localhost:9090")
    assert done.exit_code == 2
    assert "'localhost:9090' is no URL like http://HOST:PORT" in done.output
    assert not (tmp_path / "x").exists()


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("--out", tmp_path / "file/below")
    assert done.exit_code != 0
    assert "file" in done.output
    assert "Traceback" not in done.output
