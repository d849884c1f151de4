"""Metrics as text for Prometheus."""

from __future__ import annotations

import re

from skep.api.exposition import ManySamples, exposed, exposed_many
from skep.runtime.metrics import Counter, Histogram, LabelledCounter, LabelledGauge

# A name, labels or none, a value; what could follow is a time, and must not.
LINE = re.compile(r'[a-z_]+(\{([a-z_]+="([^"\\\n]|\\.)*",?)+\})? [-+.0-9eInfa]+')
ODD = 'a "quoted" \\ back\nslash, {brace} é\u2028 \x0b\x85 \nx{y="z"} 0'


def checked(text: bytes) -> list[str]:
    assert b"\r" not in text
    lines = text.decode().split("\n")
    assert lines[-1] == "", "the last line ends, too"
    for line in lines[:-1]:
        assert line.startswith(("# HELP ", "# TYPE ")) or LINE.fullmatch(line), line
    return lines[:-1]


def test_each_kind_is_said_as_what_it_is() -> None:
    counter = Counter("skep_sessions_opened_total", "Sessions.")
    counter.add(3)
    labelled = LabelledCounter("skep_failures_total", "Failures.", "reason", ("full",))
    gauge = LabelledGauge("swarm_manager_tasks_total", "", ("state",), lambda: {("new",): 2}, [("ready",)])
    took = Histogram("skep_took_seconds", "How long.", (0.5, 1.0))
    took.observe(0.75)
    lines = checked(exposed([counter, labelled, gauge, took]))
    for line in (
        "# TYPE skep_sessions_opened_total counter",
        "skep_sessions_opened_total 3.0",
        'skep_failures_total{reason="full"} 0.0',
        "# TYPE swarm_manager_tasks_total gauge",
        'swarm_manager_tasks_total{state="new"} 2.0',
        'swarm_manager_tasks_total{state="ready"} 0.0',
        "# TYPE skep_took_seconds histogram",
        'skep_took_seconds_bucket{le="0.5"} 0.0',
        'skep_took_seconds_bucket{le="1"} 1.0',
        'skep_took_seconds_bucket{le="+Inf"} 1.0',
        "skep_took_seconds_sum 0.75",
        "skep_took_seconds_count 1.0",
    ):
        assert line in lines
    assert any(line.startswith("process_cpu_seconds_total ") for line in lines)


def test_many_samples_are_said_as_the_library_says_them() -> None:
    names = ("node_id", "hostname")
    values = {("n1", ODD): 1.0, ("n2", ""): 0.25, ("n3", "h"): 17179869184.0}
    few = LabelledGauge("skep_node_info", ODD, names, lambda: values)
    many = ManySamples("skep_node_info", ODD, names, list(values.items()))
    own = [line for line in checked(exposed([few])) if "skep_node_info" in line]
    said = checked(exposed_many([many]))
    assert [line.rpartition(" ")[0] for line in said] == [line.rpartition(" ")[0] for line in own]
    numbers = [float(line.rpartition(" ")[2]) for line in said[2:]]
    assert numbers == [float(line.rpartition(" ")[2]) for line in own[2:]] == list(values.values())


def test_a_value_that_changes_is_said_anew() -> None:
    for value in (1.0, 2.0):
        text = exposed_many([ManySamples("skep_node_up", "", ("node_id",), [(("n",), value)])])
        assert text.splitlines()[-1] == f'skep_node_up{{node_id="n"}} {value}'.encode()
