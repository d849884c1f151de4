"""What every command that asks a swarm takes for a host."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from skep.cli.main import main


@pytest.mark.parametrize(
    "line",
    [
        "telegraf --config",
        "monitor influx --url http://127.0.0.1:1 --v1 d",
        "monitor prometheus --config",
        "monitor rm",
        "top --once",
        "dashboard --no-browser",
        "explain web",
        "cluster settings",
        "cluster set",
    ],
)
@pytest.mark.parametrize("wrong", ["foo", "mg0:2376", "http://mg0:2376", "tcp://", "unix://"])
def test_what_is_no_host_is_said_before_anything_is_done(line: str, wrong: str) -> None:
    command, *rest = line.split()
    done = CliRunner().invoke(main, [command, *rest, "--host", wrong])
    assert done.exit_code == 2, done.output
    assert f"a host must be unix://PATH or tcp://HOST:PORT, not '{wrong}'" in done.output
