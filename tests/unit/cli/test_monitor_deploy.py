"""`skep monitor deploy`: what it prints and writes without a swarm, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from skep.cli.main import main
from skep.cli.monitor.remove import what_stays


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["monitor", "deploy", *map(str, arguments)])


def test_it_prints_a_compose_file() -> None:
    done = run(
        "--print", "--image", "grafana=mine:1", "--publish", "prometheus=90", "--constraint", "node.id==x"
    )
    assert done.exit_code == 0, done.output
    services = yaml.safe_load(done.stdout)["services"]
    assert list(services) == ["prometheus", "grafana"]
    assert services["grafana"]["image"] == "mine:1"
    assert [services[part]["ports"][0]["published"] for part in ("prometheus", "grafana")] == [90, 3000]
    assert services["grafana"]["deploy"]["placement"]["constraints"] == ["node.id==x"]


def test_parts_are_chosen() -> None:
    parts = {
        (): ["prometheus", "grafana"],
        ("--no-grafana",): ["prometheus"],
        ("--influx",): ["influxdb", "skep", "grafana"],
        ("--influx", "--prometheus"): ["prometheus", "influxdb", "skep", "grafana"],
    }
    for options, wanted in parts.items():
        done = run("--print", "--image", "skep=mine", *options)
        assert list(yaml.safe_load(done.stdout)["services"]) == wanted


def test_it_writes_all_files_again_and_again(tmp_path: Path) -> None:
    for _ in range(2):
        done = run("--out", tmp_path)
        assert done.exit_code == 0, done.output
    compose = yaml.safe_load((tmp_path / "compose.yaml").read_text())
    for config in compose["configs"].values():
        assert (tmp_path / config["file"]).is_file()
    assert "docker secret create skep-monitor-grafana-password -" in done.output
    (tmp_path / "prometheus.yml").write_text("mine")
    assert run("--out", tmp_path).exit_code == 1


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--influx",), "--image skep=IMAGE"),
        (("--image", "x=y"), "'x=y' is not PART=IMAGE, of prometheus, influxdb, grafana, skep"),
        (("--publish", "grafana"), "'grafana' is not PART=PORT"),
        (("--publish", "grafana=x"), "'x' is no port"),
        (("--publish", "grafana=70000"), "'70000' is no port"),
        (("--publish", "skep=1"), "skep listens on no port"),
        (("--publish", "influxdb=1"), "influxdb is not part of it"),
        (("--print", "--metrics-port", "0"), "0 is not in the range"),
        (("--print", "--wait-s", "-1"), "-1.0 is not in the range"),
        (("--print", "--keep", "long"), "'long' is no time to keep anything: write 15d"),
        (("--print", "--out", "/nowhere"), "--print and --out are two things"),
        (("--host", "unix:///nowhere"), "no daemon answers at unix:///nowhere"),
    ],
)
def test_what_cannot_be_is_said(options: tuple[str, ...], why: str) -> None:
    done = run(*options)
    assert done.exit_code != 0
    assert why in " ".join(done.output.split())


def test_what_is_left_of_a_stack_is_said_and_no_more() -> None:
    assert "volume rm s_prometheus-data\n" in what_stays("s", ["prometheus"], "") + "\n"
    assert "grafana" not in what_stays("s", ["prometheus", "influxdb", "skep"], "")
    said = what_stays("s", ["prometheus"], "s-grafana-password")
    assert "volume rm s_prometheus-data s_grafana-data\n" in said
    assert said.endswith("docker secret rm s-grafana-password")
    assert what_stays("s", ["other"], "") == ""
