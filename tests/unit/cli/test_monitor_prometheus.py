"""`skep monitor prometheus`: what it prints, and what it refuses."""

from __future__ import annotations

import pytest
from click.testing import CliRunner, Result

from skep.cli.main import main


def run(*arguments: str, **environment: str) -> Result:
    empty = {"DOCKER_HOST": None, "DOCKER_TLS_VERIFY": None, "DOCKER_CERT_PATH": None}
    return CliRunner().invoke(main, ["monitor", "prometheus", *arguments], env={**empty, **environment})


def test_the_configuration_asks_the_swarm_where_docker_is_asked() -> None:
    assert 'host: "unix:///run/skep/skep.sock"' in run("--config").output
    said = run("--config", DOCKER_HOST="tcp://m0:2376", DOCKER_TLS_VERIFY="1", DOCKER_CERT_PATH="/c").output
    assert said.count('host: "tcp://m0:2376"') == 5
    assert said.count('ca_file: "/c/ca.pem"') == 5
    assert "tls_config" not in run("--config", DOCKER_TLS_VERIFY="1").output
    assert ":9399'" in run("--config", "--port", "9399").output


def test_daemons_can_be_named() -> None:
    said = run("--config", "--target", "a:1", "--target", "[::1]:2").output
    assert "dockerswarm" not in said
    assert said.count('targets: ["a:1", "[::1]:2"]') == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "say what to print: --rules or --config"),
        (("--rules", "--config"), "say what to print: --rules or --config"),
        (
            ("--config", "--host", "m0:2376"),
            "a host must be unix://PATH or tcp://HOST:PORT, not 'm0:2376'",
        ),
        (("--config", "--port", "0"), "--port"),
        (("--config", "--target", "a"), "'a' is not HOST:PORT"),
        (("--config", "--target", ":9323"), "':9323' is not HOST:PORT"),
        (("--config", "--target", "a:0"), "'a:0' is not HOST:PORT"),
        (("--config", "--target", "a:65536"), "'a:65536' is not HOST:PORT"),
        (("--config", "--target", "http://a:1"), "'http://a:1' is not HOST:PORT"),
    ],
)
def test_what_cannot_be_is_said(arguments: tuple[str, ...], said: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert said in done.output
