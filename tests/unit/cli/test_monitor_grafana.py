"""`skep monitor grafana`: what it writes, and what it leaves alone."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from skep.cli.main import main
from skep.cli.monitor.writing import write_files
from skep.runtime.errors import Invalid


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


@pytest.mark.parametrize("option", ["--prometheus", "--influx"])
def test_a_password_is_not_written_where_all_read_it(tmp_path: Path, option: str) -> None:
    done = run("--out", tmp_path / "x", option, "http://me:secret@there:9090")
    assert done.exit_code == 2
    assert f"Invalid value for {option}: it must not name a user or a password" in done.output
    assert not (tmp_path / "x").exists()


def test_all_is_written_or_nothing(tmp_path: Path) -> None:
    """A disk that is full, in the middle of the second file."""
    write_files(tmp_path, {"a": "old", "b/c": "old"}, lambda _: True)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with pytest.raises(Invalid, match=rf"{tmp_path}/b/c: File too large"):
            write_files(tmp_path, {"a": "new", "b/c": "x" * (2 << 20)}, lambda _: True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name: path.read_text() for path in tmp_path.rglob("*") if path.is_file()} == {
        "a": "old",
        "c": "old",
    }


def test_no_link_of_somebody_else_is_written_through(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("another's")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/.a.part").symlink_to(other)
    write_files(tmp_path / "out", {"a": "ours"}, lambda _: True)
    assert (other.read_text(), (tmp_path / "out/a").read_text()) == ("another's", "ours")
    assert not (tmp_path / "out/a").is_symlink()
