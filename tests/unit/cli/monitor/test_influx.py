"""Where `skep monitor influx` has its secrets from: never from its command line."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from skep.cli.monitor.influx import influx_command, secret_of, target_of
from skep.runtime.errors import Invalid

URL = "http://influx"


def test_no_option_takes_a_secret() -> None:
    names = {name for each in influx_command.params for name in each.opts}
    assert not [name for name in names if "token" in name or "pass" in name]


def test_a_token(tmp_path: Path) -> None:
    assert secret_of({"SKEP_INFLUX_TOKEN": "t"}, None, needs_token=True)() == "t"
    file = tmp_path / "token"
    file.write_text("first\n")
    secret = secret_of({"SKEP_INFLUX_TOKEN_FILE": str(file)}, None, needs_token=True)
    assert secret() == "first"
    file.write_text("second\n")  # a rotated one counts at the next write
    assert secret() == "second"
    file.unlink()
    with pytest.raises(Invalid, match="cannot be read"):
        secret()


def test_a_user_with_a_password(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("p:w")
    assert secret_of({"SKEP_INFLUX_PASSWORD_FILE": str(file)}, "ada", needs_token=False)() == "ada:p:w"
    assert secret_of({"SKEP_INFLUX_PASSWORD": "pw"}, "ada", needs_token=False)() == "ada:pw"
    assert secret_of({"SKEP_INFLUX_PASSWORD": "pw"}, None, needs_token=False)() == ""


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines", b"x" * 9000, b"\x00"])
def test_files_without_a_secret(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(Invalid, match="token"):
        secret_of({"SKEP_INFLUX_TOKEN_FILE": str(file)}, None, needs_token=True)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(Invalid, match="SKEP_INFLUX_TOKEN"):
        secret_of({}, None, needs_token=True)
    with pytest.raises(Invalid, match="SKEP_INFLUX_PASSWORD"):
        secret_of({}, "ada", needs_token=False)
    with pytest.raises(click.UsageError, match="--user is for --v1"):
        secret_of({"SKEP_INFLUX_TOKEN": "t"}, "ada", needs_token=True)
    with pytest.raises(click.UsageError, match="one of --v1"):
        target_of(URL, None, None, None)
    with pytest.raises(click.UsageError, match="one of --v1"):
        target_of(URL, "d", None, "d")


def test_the_command_line_by_the_environment_alone() -> None:
    """As a service of the swarm has it."""
    environment = {"SKEP_INFLUX_URL": "http://u:secret@influx", "SKEP_INFLUX_V1": "telegraf"}
    result = CliRunner().invoke(influx_command, [], env=environment)
    assert isinstance(result.exception, Invalid)
    assert "SKEP_INFLUX_PASSWORD" in str(result.exception)


@pytest.mark.parametrize("interval", ["0s", "500ms", "10", "s", "1x", "-1s"])
def test_intervals(interval: str) -> None:
    result = CliRunner().invoke(influx_command, ["--url", URL, "--v1", "d", "--interval", interval])
    assert result.exit_code == 2
    assert "--interval" in result.output
