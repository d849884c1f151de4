"""A configuration for Prometheus that watches a swarm: its daemons by their metrics' addresses, and what its
services say of themselves. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from msgspec import Struct

PORT = 9323  # dockerd's own, where nothing else is said
RULES = "skep-rules.yml"
INTERVAL_S = 15
PATHS = {
    "skep": "/metrics",
    "skep-nodes": "/metrics/nodes",
    "skep-services": "/metrics/services",
    "skep-mesh": "/metrics/mesh",
}
EVERY_DAEMON = ("skep", "skep-mesh")  # the others are the leader's


class Discovery(Struct, frozen=True):
    """How the swarm is asked for its nodes and tasks: `host` as Docker's, `tls_dir` with ca.pem, cert.pem and
    key.pem; `port` is that of the daemons' metrics. `managers_only`: workers need not have any."""

    host: str
    tls_dir: str = ""
    port: int = PORT
    managers_only: bool = False


def by_discovery(asked: Discovery) -> str:
    """Returns a configuration by which Prometheus asks the swarm where its daemons and tasks are."""
    jobs = (_daemons(job, path, asked) for job, path in PATHS.items())
    return "\n".join((_HEAD, *jobs, _tasks(asked)))


def by_targets(targets: Iterable[str]) -> str:
    """Returns a configuration for daemons that are named, by HOST:PORT of their metrics. The paths of the
    leader are asked for of each: the others have nothing there."""
    named = json.dumps(list(targets))
    jobs = (
        f"{_job(job, path)}    static_configs:\n      - targets: {named}\n" for job, path in PATHS.items()
    )
    return "\n".join((_HEAD, *jobs))


_HEAD = f"""# Prometheus' configuration for a swarm of skep, 2.42 and later.
# {RULES}: skep monitor prometheus --rules
global:
  scrape_interval: {INTERVAL_S}s
  evaluation_interval: {INTERVAL_S}s

rule_files:
  - {RULES}

scrape_configs:"""


def _discovered(asked: Discovery, role: str, filters: str = "") -> str:
    found = f"""    dockerswarm_sd_configs:
      - host: {json.dumps(asked.host)}
        role: {role}
{filters}"""
    if asked.tls_dir:
        files = (("ca_file", "ca.pem"), ("cert_file", "cert.pem"), ("key_file", "key.pem"))
        lines = (f"          {name}: {json.dumps(f'{asked.tls_dir}/{file}')}\n" for name, file in files)
        found += "        tls_config:\n" + "".join(lines)
    return found


def _job(job: str, path: str) -> str:
    """With usage, nodes are asked what they use; without, what is known of that."""
    asks = "    params: {usage: ['1']}\n" if path == PATHS["skep-nodes"] else ""
    return f"  - job_name: {job}\n    metrics_path: {path}\n{asks}"


def _daemons(job: str, path: str, asked: Discovery) -> str:
    comment, kept = "# What the leader knows; the others have nothing there.", _MANAGERS
    if job in EVERY_DAEMON:
        comment, kept = ("# Every manager.", _MANAGERS) if asked.managers_only else ("# Every daemon.", "")
    return f"""  {comment}
{_job(job, path)}{_discovered(asked, "nodes")}    relabel_configs:
{kept}      - source_labels: [__meta_dockerswarm_node_address]
        regex: '.*:.*'
        target_label: __address__
        replacement: '[$0]:{asked.port}'
      - source_labels: [__meta_dockerswarm_node_address]
        regex: '[^:]*'
        target_label: __address__
        replacement: '$0:{asked.port}'
"""


_MANAGERS = """      - source_labels: [__meta_dockerswarm_node_role]
        regex: manager
        action: keep
"""


# Filtered where they are: of 100,000 tasks those that are not wanted are not asked for.
_TASKS = """        filters:
          - name: label
            values: [prometheus-job]
          - name: desired-state
            values: [running]
"""


def _tasks(asked: Discovery) -> str:
    return f"""\
  # Tasks of services whose label prometheus-job says which job they are of. Where they listen is said by a
  # published port: in host mode at the node's address, else on networks, of which Prometheus must be on one.
  # Prometheus takes the published port there, too: it has to be the one within.
  - job_name: services
{_discovered(asked, "tasks", _TASKS)}    relabel_configs:
      # The routing mesh's own network leads to each task once more.
      - source_labels: [__meta_dockerswarm_network_ingress]
        regex: 'true'
        action: drop
      - source_labels: [__meta_dockerswarm_service_label_prometheus_job]
        target_label: job
      - source_labels: [__meta_dockerswarm_service_name]
        target_label: service_name
      - source_labels: [__meta_dockerswarm_task_slot]
        target_label: task_slot
      - source_labels: [__meta_dockerswarm_node_hostname]
        target_label: hostname
"""
