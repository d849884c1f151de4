"""The stack that watches a swarm: what its compose file says, and what is refused."""

from __future__ import annotations

import pytest
import yaml

from skep.monitor.stack.compose import COMPOSE, stack_files
from skep.monitor.stack.plan import GRAFANA, IMAGES, INFLUXDB, PROMETHEUS, WRITER, StackPlan, check_plan
from skep.monitor.yaml_text import yaml_of
from skep.runtime.errors import Invalid

ALL = StackPlan("s", (PROMETHEUS, INFLUXDB, WRITER, GRAFANA), {WRITER: "skep:1"}, {GRAFANA: 3000})


def test_yaml_reads_back_as_what_it_was() -> None:
    value = {
        "a": [
            "x",
            "-x",
            "no",
            "y",
            "1",
            "1.5",
            "10s",
            "a: b",
            "a:",
            "#",
            "it's",
            "",
            " x",
            "é",
            "!",
            "*a",
            "a #b",
            "1e3",
            "0o7",
            "1:30",
            "a\nb\n",
            "\x1b[1m",
            "long " * 60,
        ],
        "b: c": {"d": [], "e": {}, "f": [{"g": 1, "h": ["i"]}, {}, []], "k": True, "l": False, "m": -3},
        "true": "null",
    }
    text = yaml_of(value, "says\n\nmore")
    assert yaml.safe_load(text) == value
    assert text.startswith("# says\n#\n# more\n")


def test_every_file_that_is_named_is_there_and_every_config_has_one() -> None:
    files = stack_files(ALL, "groups: []\n")
    compose = yaml.safe_load(files[COMPOSE])
    named = {config["file"].removeprefix("./") for config in compose["configs"].values()}
    assert named == set(files) - {COMPOSE}
    used = [each["source"] for service in compose["services"].values() for each in service.get("configs", [])]
    assert sorted(used) == sorted(compose["configs"])
    volumes = {
        str(each).partition(":")[0]
        for service in compose["services"].values()
        for each in service["volumes"]
        if isinstance(each, str)
    }
    assert volumes == set(compose["volumes"])
    names = [config["name"] for config in compose["configs"].values()]
    assert max(map(len, names)) + 24 - len("s") <= 64, "as long as the stack's name may be"


def test_another_content_is_another_config() -> None:
    def name(plan: StackPlan) -> str:
        return str(yaml.safe_load(stack_files(plan, "")[COMPOSE])["configs"]["prometheus"]["name"])

    one = StackPlan("s", (PROMETHEUS,))
    assert name(one) == name(StackPlan("s", (PROMETHEUS,), keep_for="1d"))
    assert name(one) != name(StackPlan("s", (PROMETHEUS,), metrics_port=9324))


def test_who_asks_managers_is_where_they_are_and_what_is_published_is_wished_for() -> None:
    plan = StackPlan(
        "s",
        ALL.parts,
        ALL.images,
        {GRAFANA: 80},
        ("node.labels.of == mon$it",),
        socket="/srv/{{.Node.Hostname}}/api",
    )
    services = yaml.safe_load(stack_files(plan, "")[COMPOSE])["services"]
    constraints = {part: each["deploy"]["placement"]["constraints"] for part, each in services.items()}
    assert (
        constraints[PROMETHEUS]
        == constraints[WRITER]
        == ["node.role == manager", "node.labels.of == mon$$it"]
    )
    assert constraints[GRAFANA] == constraints[INFLUXDB] == ["node.labels.of == mon$$it"]
    assert [part for part in services if "ports" in services[part]] == [GRAFANA]
    assert services[PROMETHEUS]["volumes"][1]["source"] == "/srv/{{.Node.Hostname}}"
    assert [services[part]["image"] for part in (PROMETHEUS, WRITER)] == [IMAGES[PROMETHEUS], "skep:1"]


@pytest.mark.parametrize(
    ("socket", "source", "target"),
    [
        ("/run/skep/skep.sock", "/run/skep", "/run/swarm-api"),
        ("/var/run/docker.sock", "/var/run/docker.sock", "/run/swarm-api/docker.sock"),
    ],
)
def test_the_api_is_where_it_is_asked(socket: str, source: str, target: str) -> None:
    plan = StackPlan("s", (PROMETHEUS,), socket=socket)
    assert plan.mount == (source, target)
    assert f'host: "{plan.api}"\n' in stack_files(plan, "")["prometheus.yml"]
    assert plan.api == f"unix:///run/swarm-api/{socket.rpartition('/')[2]}"


def test_grafana_asks_what_is_there() -> None:
    files = stack_files(StackPlan("s", (INFLUXDB, WRITER, GRAFANA), {WRITER: "x"}), "")
    sources = yaml.safe_load(files["grafana/datasources/skep.yaml"])["datasources"]
    assert [each["url"] for each in sources] == ["http://influxdb:8086"]
    assert not [name for name in files if "prometheus" in name]
    compose = yaml.safe_load(files[COMPOSE])
    assert compose["secrets"]["grafana-password"] == {"external": True, "name": "s-grafana-password"}
    home = compose["services"][GRAFANA]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home in {each["target"] for each in compose["services"][GRAFANA]["configs"]}


def test_jobs_are_those_that_boards_ask_for() -> None:
    plan = StackPlan("s", (PROMETHEUS,), metrics_port=1234)
    *jobs, _ = yaml.safe_load(stack_files(plan, "")["prometheus.yml"])["scrape_configs"]
    assert [job["job_name"] for job in jobs] == ["skep", "skep-nodes", "skep-services", "skep-mesh"]
    for job in jobs:
        kept, *_, addressed = job["relabel_configs"]
        assert (kept["regex"], kept["action"]) == ("manager", "keep"), "workers need not say any"
        assert addressed["replacement"] == "$0:1234"


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        (StackPlan("", (PROMETHEUS,)), "no name"),
        (StackPlan("A", (PROMETHEUS,)), "no name"),
        (StackPlan("a" * 25, (PROMETHEUS,)), "24 at most"),
        (StackPlan("a", (INFLUXDB, WRITER)), "--image skep=IMAGE"),
        (StackPlan("a", (PROMETHEUS,), {PROMETHEUS: "-x"}), "no image's name"),
        (StackPlan("a", (PROMETHEUS,), {}, {GRAFANA: 1}), "grafana is not part of it"),
        (StackPlan("a", (PROMETHEUS, GRAFANA), {}, {GRAFANA: 1, PROMETHEUS: 1}), "port 1 cannot lead to two"),
        (StackPlan("a", (PROMETHEUS,), keep_for="15"), "is no time to keep anything"),
        (StackPlan("a", (PROMETHEUS,), keep_for="0d"), "is no time to keep anything"),
        (StackPlan("a", (PROMETHEUS,), socket="x"), "begins with /"),
        (StackPlan("a", (PROMETHEUS,), constraints=("disk",)), "--constraint disk: .*one operator"),
        (StackPlan("a", (PROMETHEUS,), socket="/x/"), "ends with a name"),
    ],
)
def test_what_cannot_be_is_refused(plan: StackPlan, why: str) -> None:
    with pytest.raises(Invalid, match=why):
        check_plan(plan)
