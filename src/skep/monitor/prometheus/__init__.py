"""What Prometheus needs to watch a swarm: rules, which are a file as it reads them, and a configuration."""

from __future__ import annotations

from importlib.resources import files


def rules() -> str:
    """Returns the recording and alerting rules, in Prometheus' YAML."""
    return (files("skep.monitor.prometheus") / "rules.yml").read_text()
