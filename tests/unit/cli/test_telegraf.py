"""`skep telegraf`: what it prints without a swarm, and what it refuses."""

from __future__ import annotations

from click.testing import CliRunner, Result

from skep.cli.main import main


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["telegraf", *arguments])


def test_the_section_has_what_was_chosen() -> None:
    said = run("--config", "--host", "tcp://mg0:2376", "--timeout", "3s", "--no-usage").output
    assert '"--host", "tcp://mg0:2376", "--timeout", "3s", "--no-usage"]' in said


def test_no_section_is_made_for_what_is_no_address() -> None:
    done = run("--config", "--host", "mg0:2376")
    assert done.exit_code != 0
    assert "a host must be unix://PATH or tcp://HOST:PORT, not 'mg0:2376'" in done.output
