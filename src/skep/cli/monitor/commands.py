"""The group `skep monitor`, which loads the command that was chosen."""

from __future__ import annotations

import click

from skep.cli.lazy import LazyGroup

COMMANDS: dict[str, str] = {
    "deploy": "skep.cli.monitor.deploy:deploy_command",
    "grafana": "skep.cli.monitor.grafana:grafana_command",
    "influx": "skep.cli.monitor.influx:influx_command",
    "prometheus": "skep.cli.monitor.prometheus:prometheus_command",
    "rm": "skep.cli.monitor.remove:rm_command",
}


@click.group(cls=LazyGroup, lazy=COMMANDS)
def monitor() -> None:
    """Has other programs watch a swarm: what they need is printed, or run."""
