"""The compose file of what watches a swarm, and the files that it names. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from skep.monitor.grafana import MARK, PROVISIONING, Source, provisioning
from skep.monitor.prometheus.config import RULES, Discovery, by_discovery
from skep.monitor.stack.plan import GRAFANA, INFLUXDB, MANAGERS, PORTS, PROMETHEUS, WRITER, StackPlan
from skep.monitor.yaml_text import Value, yaml_of

COMPOSE = "compose.yaml"
_NETWORK = "monitor"
_RULES = f"/etc/prometheus/{RULES}"
_SAYS = """{mark} (skep monitor deploy). By hand, in this directory:
  docker stack deploy -c {compose} {name}"""
Service = dict[str, Value]


def stack_files(plan: StackPlan, rules: str) -> dict[str, str]:
    """Returns texts by paths below one directory: the compose file, and what its configs are made of. `rules`
    are Prometheus' own."""
    files = _Files(plan)
    makers = {
        PROMETHEUS: lambda: _prometheus(plan, files, rules),
        INFLUXDB: lambda: _influxdb(plan),
        WRITER: lambda: _writer(plan),
        GRAFANA: lambda: _grafana(plan, files),
    }
    services: dict[str, Value] = {part: makers[part]() for part in plan.parts}
    value: dict[str, Value] = {
        "version": "3.7",
        "services": services,
        "networks": {_NETWORK: {"driver": "overlay"}},
        "volumes": {volume: {} for part, volume in VOLUMES.items() if part in plan.parts},
    }
    if files.configs:
        value["configs"] = files.configs
    if GRAFANA in plan.parts:
        value["secrets"] = {"grafana-password": {"external": True, "name": plan.password_name}}
    says = _SAYS.format(mark=MARK, compose=COMPOSE, name=plan.name)
    return {COMPOSE: yaml_of(_escaped(value), says), **files.texts}


VOLUMES = {PROMETHEUS: "prometheus-data", INFLUXDB: "influxdb-data", GRAFANA: "grafana-data"}
_MOUNTED = {PROMETHEUS: "/prometheus", INFLUXDB: "/var/lib/influxdb", GRAFANA: "/var/lib/grafana"}


class _Files:
    """Files that become configs. These cannot change: each is named by what is in it, another one anew."""

    def __init__(self, plan: StackPlan) -> None:
        self._plan = plan
        self.texts: dict[str, str] = {}
        self.configs: dict[str, Value] = {}

    def add(self, name: str, path: str, text: str, target: str) -> Value:
        """Returns how a service says that it has it at `target`."""
        digest = hashlib.sha256(text.encode()).hexdigest()[:10]
        self.texts[path] = text
        self.configs[name] = {"file": f"./{path}", "name": f"{self._plan.name}-{name}-{digest}"}
        return {"source": name, "target": target}


def _service(plan: StackPlan, part: str, asks_managers: bool = False) -> Service:
    """`asks_managers`: it needs a manager's socket. What keeps data goes where they are: on one node, if the
    constraints leave one, else on some manager."""
    constraints = [MANAGERS] if asks_managers or not plan.constraints else []
    made: Service = {"image": plan.image(part), "networks": [_NETWORK]}
    volumes: list[Value] = []
    if part in VOLUMES:
        volumes.append(f"{VOLUMES[part]}:{_MOUNTED[part]}")
    if asks_managers:
        source, target = plan.mount
        volumes.append({"type": "bind", "source": source, "target": target, "read_only": True})
    made["volumes"] = volumes
    if part in plan.published:
        made["ports"] = [{"target": PORTS[part], "published": plan.published[part], "protocol": "tcp"}]
    made["deploy"] = {
        "placement": {"constraints": [*constraints, *plan.constraints]},
        "update_config": {"order": "stop-first"},  # two cannot have one volume
        "restart_policy": {"condition": "any", "delay": "5s"},
    }
    return made


def _prometheus(plan: StackPlan, files: _Files, rules: str) -> Service:
    made = _service(plan, PROMETHEUS, asks_managers=True)
    text = f"# {MARK}.\n" + by_discovery(Discovery(plan.api, port=plan.metrics_port, managers_only=True))
    configs = [
        files.add("prometheus", "prometheus.yml", text, "/etc/prometheus/prometheus.yml"),
        files.add("prometheus-rules", RULES, f"# {MARK}.\n{rules}", _RULES),
    ]
    return made | {
        "user": "0",  # root, whom managers' socket is for; not every image knows the name
        "configs": configs,
        "command": [
            "--config.file=/etc/prometheus/prometheus.yml",
            f"--storage.tsdb.path={_MOUNTED[PROMETHEUS]}",
            f"--storage.tsdb.retention.time={plan.keep_for}",
        ],
    }


def _influxdb(plan: StackPlan) -> Service:
    environment: dict[str, Value] = {
        "INFLUXDB_DB": plan.database,  # which its image makes
        "INFLUXDB_REPORTING_DISABLED": "true",
        "INFLUXDB_HTTP_LOG_ENABLED": "false",
    }
    return _service(plan, INFLUXDB) | {"environment": environment}


def _writer(plan: StackPlan) -> Service:
    made = _service(plan, WRITER, asks_managers=True)
    url = f"http://{INFLUXDB}:{PORTS[INFLUXDB]}"
    command = [
        "skep",
        "monitor",
        "influx",
        "--url",
        url,
        "--v1",
        plan.database,
        "--create",
        "--host",
        plan.api,
    ]
    return made | {"command": command}


def _grafana(plan: StackPlan, files: _Files) -> Service:
    urls: dict[Source, str] = {}
    if PROMETHEUS in plan.parts:
        urls["prometheus"] = f"http://{PROMETHEUS}:{PORTS[PROMETHEUS]}"
    if INFLUXDB in plan.parts:
        urls["influx"] = f"http://{INFLUXDB}:{PORTS[INFLUXDB]}"
    configs = []
    for path, text in provisioning(urls, plan.database).items():
        name = "grafana-" + path.rpartition(".")[0].removeprefix("dashboards/skep/").replace("/", "-")
        configs.append(files.add(name, f"grafana/{path}", text, f"{PROVISIONING}/{path}"))
    home = f"{PROVISIONING}/dashboards/skep/swarm-{next(iter(urls))}.json"
    environment: dict[str, Value] = {
        "GF_SECURITY_ADMIN_PASSWORD__FILE": "/run/secrets/grafana-password",
        "GF_USERS_ALLOW_SIGN_UP": "false",
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
        "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH": home,
    }
    own: Service = {"environment": environment, "configs": configs, "secrets": ["grafana-password"]}
    return _service(plan, GRAFANA) | own


def _escaped(value: Mapping[str, Value]) -> dict[str, Value]:
    """Returns it with dollar signs doubled, which begin a variable in compose files."""
    return {name: _escape(each) for name, each in value.items()}


def _escape(value: Value) -> Value:
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, Mapping):
        return _escaped(value)
    return [_escape(each) for each in value] if isinstance(value, list | tuple) else value
