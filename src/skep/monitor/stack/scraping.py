"""What Prometheus asks, and how often. Pure."""

from __future__ import annotations

from skep.monitor.yaml_text import Value, yaml_of

JOB = "skep"  # boards take jobs of these endings for parts of one
PATHS = {"": "/metrics", "-nodes": "/metrics/nodes", "-services": "/metrics/services"}
INTERVAL = "15s"


def prometheus_yml(api: str, metrics_port: int, rules: tuple[str, ...]) -> str:
    """Returns Prometheus' file: it asks all managers that there are at the moment, on that port of theirs.
    Who does not lead says little, so it need not be known who does. `api`: where it asks who they
    are; `rules`: paths."""
    value: dict[str, Value] = {"global": {"scrape_interval": INTERVAL, "evaluation_interval": INTERVAL}}
    if rules:
        value["rule_files"] = list(rules)
    value["scrape_configs"] = [
        _job(JOB + ending, path, _managers(api, metrics_port)) for ending, path in PATHS.items()
    ]
    return yaml_of(value, "Made by skep (skep monitor deploy).")


def _job(name: str, path: str, managers: Value) -> dict[str, Value]:
    return {
        "job_name": name,
        "metrics_path": path,
        "dockerswarm_sd_configs": [managers],
    }


def _managers(api: str, port: int) -> Value:
    return {
        "host": api,
        "role": "nodes",
        "port": port,
        "refresh_interval": "30s",
        "filters": [{"name": "role", "values": ["manager"]}],
    }
