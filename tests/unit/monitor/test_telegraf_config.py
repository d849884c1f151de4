"""Telegraf's configuration, ours and the one that it comes from."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from skep.monitor.telegraf_config import converted, section_of
from skep.runtime.errors import Invalid


def execd(section: str) -> dict[str, Any]:
    (found,) = tomllib.loads(section)["inputs"]["execd"]
    assert isinstance(found, dict)
    return found


def test_the_section() -> None:
    assert execd(section_of()) == {
        "command": ["skep", "telegraf"],
        "signal": "STDIN",
        "interval": "10s",
        "restart_delay": "10s",
        "data_format": "influx",
    }


def test_what_else_was_chosen_goes_on() -> None:
    assert execd(section_of(with_usage=False))["command"] == ["skep", "telegraf", "--no-usage"]


def test_certificates_are_a_hint_where_they_may_be_needed() -> None:
    assert "DOCKER_CERT_PATH" in section_of(["tcp://mg0:2376"])
    assert "DOCKER_CERT_PATH" not in section_of(["unix:///run/skep/skep.sock"])
    general = {"tags": {"swarm": "a"}}
    assert execd(section_of(["tcp://mg0:2376"], "", general))["tags"] == {"swarm": "a"}


def test_hosts_that_need_quotes() -> None:
    hosts = ["tcp://mg0:2376", 'unix:///a "b"\\c\t/é.sock']
    assert execd(section_of(hosts, "3s"))["command"] == [
        "skep",
        "telegraf",
        "--host",
        hosts[0],
        "--host",
        hosts[1],
        "--timeout",
        "3s",
    ]


@pytest.mark.parametrize(
    ("endpoint", "hosts", "note"),
    [
        ("", [], "skepd's own socket"),
        ("ENV", [], "DOCKER_HOST"),
        ("unix:///var/run/docker.sock", ["--host", "unix:///var/run/docker.sock"], ""),
        ("tcp://mg0:2376", ["--host", "tcp://mg0:2376"], ""),
        ("http://mg0:2375", ["--host", "tcp://mg0:2375"], "written as tcp"),
        ("https://mg0:2376", ["--host", "tcp://mg0:2376"], "DOCKER_TLS_VERIFY"),
    ],
)
def test_the_endpoint(endpoint: str, hosts: list[str], note: str) -> None:
    (found,) = converted(f'[[inputs.swarm]]\nendpoint = "{endpoint}"\n')
    assert execd(found.section)["command"] == ["skep", "telegraf", *hosts]
    assert note in " ".join(found.notes)
    assert "swarm_task " in found.notes[-1]


def test_the_rest_of_a_telegraf_conf_and_what_telegraf_knows_of_any_input() -> None:
    (found,) = converted(
        """
        [global_tags]
        [agent]
          interval = "30s"
        [[outputs.influxdb]]
          database = "telegraf"
        [[inputs.cpu]]
        [[inputs.swarm]]
          endpoint = "ENV"
          timeout = "2s"
          interval = "20s"
          fieldpass = ["n_*"]
          perdevice = true
          [inputs.swarm.tags]
            "data center" = "ams"
            rack = "3"
          [inputs.swarm.tagpass]
            node_id = ["a*", "b"]
        """
    )
    section = execd(found.section)
    assert section["command"] == ["skep", "telegraf", "--timeout", "2s"]
    assert section["interval"] == "20s"
    assert section["fieldpass"] == ["n_*"]
    assert section["tags"] == {"data center": "ams", "rack": "3"}
    assert section["tagpass"] == {"node_id": ["a*", "b"]}
    assert "perdevice" not in section
    assert [note for note in found.notes if note.startswith("perdevice is left out")]


def test_several_sections() -> None:
    found = converted('[[inputs.swarm]]\nendpoint = "tcp://a:1"\n[[inputs.swarm]]\ntimeout = 5\n')
    assert [execd(each.section)["command"][2:] for each in found] == [
        ["--host", "tcp://a:1"],
        ["--timeout", "5s"],
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[inputs.cpu]]", "no section"),
        ("", "no section"),
        ("inputs = 3", "no section"),
        ("[inputs]\nswarm = [1]", "no section"),
        ("[[inputs.swarm]", "no TOML"),
        ("x = " + "[" * 10_000, "no TOML"),
        ("x = " + "9" * 10_000, "no TOML"),
        ("[[inputs.swarm]]\nendpoint = 5", "endpoint must be a text"),
        ('[[inputs.swarm]]\nendpoint = "mg0:2376"', "unix://PATH or tcp"),
        ("[[inputs.swarm]]\ntimeout = [1]", "timeout must be"),
        ('[[inputs.swarm]]\ntimeout = "5 s; rm"', "timeout must be"),
    ],
)
def test_what_cannot_be_converted(text: str, why: str) -> None:
    with pytest.raises(Invalid, match=why):
        converted(text)
