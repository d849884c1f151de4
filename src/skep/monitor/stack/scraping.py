"""What Prometheus asks, and how often. Pure."""

from __future__ import annotations

from skep.monitor.yaml_text import Value, yaml_of

JOB = "skep"  # boards take jobs of these endings for parts of one
# Per node and per service: tens of thousands of numbers in a large swarm, so less often than the few of it.
PATHS = {
    "": ("/metrics", "10s"),
    "-nodes": ("/metrics/nodes", "15s"),
    "-services": ("/metrics/services", "15s"),
}


def prometheus_yml(api: str, metrics_port: int, rules: tuple[str, ...]) -> str:
    """Returns Prometheus' file: it asks all managers that there are at the moment, on that port of theirs.
    Who does not lead says little, so it need not be known who does. `api`: where it asks
    who they are; `rules`: paths."""
    value: dict[str, Value] = {"global": {"scrape_interval": "10s", "evaluation_interval": "10s"}}
    if rules:
        value["rule_files"] = list(rules)
    value["scrape_configs"] = [
        _job(JOB + ending, path, interval, _managers(api, metrics_port))
        for ending, (path, interval) in PATHS.items()
    ]
    return yaml_of(value, "Made by skep (skep monitor deploy).")


def _job(name: str, path: str, interval: str, managers: Value) -> dict[str, Value]:
    return {
        "job_name": name,
        "metrics_path": path,
        "scrape_interval": interval,
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
