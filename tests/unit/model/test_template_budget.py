"""What templates may take: all of a spec's together, whatever they say; time is of this thread alone."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import pytest

from skep.manager.control.validate import validate_service
from skep.model.container import ContainerSpec, Mount
from skep.model.spec import Platform, ServiceSpec, TaskSpec
from skep.model.template import expand, template_values
from skep.model.template_budget import Budget, task_budget
from skep.model.template_use import expanded
from skep.runtime.errors import Invalid

LABELS = {f"label{n}": "x" * 20 for n in range(5000)}
VALUES = template_values(("s", "web", LABELS), ("n", "host", Platform()), ("t", "web.1.t", "1"))
LOOP_MAX_S = 0.5  # what the leader's loop may be held for
GROWN = '{{$a := printf "%200s" "x"}}' + "{{$a = print $a $a $a $a $a $a}}" * 4

HOSTILE = {
    "ranges": "{{range 300}}{{range 300}}{{range 300}}{{end}}{{end}}{{end}}",
    "an endless range": "{{range 99999999999999999}}{{end}}",
    "output": "{{range 20000}}" + "x" * 1000 + "{{end}}",
    "grown": GROWN + "{{range 5000}}{{$b := js $a}}{{end}}",
    "printed": GROWN + "{{range 5000}}{{$a}}{{end}}",
    "labels": "{{range 5000}}{{$b := print $.Service.Labels}}{{end}}",
    "labels written": "{{range 5000}}{{.Service.Labels}}{{end}}".replace(".S", "$.S"),
    "labels through": "{{range 5000}}{{range $.Service.Labels}}{{break}}{{end}}{{end}}",
    "labels counted": "{{range 9000}}{{$b := len $.Service.Labels}}{{end}}",
    "compared": GROWN + "{{range 9000}}{{if eq $a $a}}{{end}}{{end}}",
    "measured": GROWN + "{{range 9000}}{{$b := len $a}}{{end}}",
    "tested": GROWN + "{{range 9000}}{{$b := and $a $a $a $a $a}}{{end}}",
    "actions": "{{1}}" * 200_000,
    "texts": "x{{/* */}}" * 100_000,
    "variables": "".join(f"{{{{$v{n} := 1}}}}" for n in range(1500)) + "{{range 20000}}{{$v1}}{{end}}",
    "arguments": "{{print " + "1 " * 500_000 + "}}",
    "parentheses": "{{" + "(" * 40 + "1" + ")" * 40 + "}}" + ("{{" + "(" * 40 + "1" + ")" * 40 + "}}") * 5000,
    "pipes": "{{1" + " | print" * 100_000 + "}}",
    "escapes": '{{"' + '\\"' * 100_000,
    "escapes in lines": '{{"' + ('\\"' * 500 + "\n") * 200,
    "comments": "{{/*" * 100_000,
    "comments that go on": "{{/* */ " * 100_000,
    "quotes": "{{" + "'" * 200_001,
    "raw quotes": "{{`" * 100_001,
    "spaces": "{{" + " " * 500_000 + "}}",
    "spaces outside": ("\n " * 100 + "{{- 1 -}}") * 2000,
    "lines": "\n" * 500_000 + "{{1}}" * 5000,
    "a number": "{{" + "1" * 500_000 + "}}",
    "a number in base 16": "{{0x" + "f" * 500_000 + "}}",
    "digits and dashes": "{{" + "1_" * 250_000 + "}}",
    "forms": '{{range 3000}}{{printf "' + "%200v" * 50 + '"}}{{end}}',
    "joined": GROWN + "{{range 3000}}{{$b := join $a $a $a}}{{end}}",
    "else": "{{if 0}}1{{else if 0}}" * 40 + "{{end}}",
    "a long name": "{{." + "a" * 500_000 + "}}",
}


def held_s(work: Callable[[], object]) -> tuple[float, str]:
    """Returns how long this thread worked, and what was wrong."""
    gc.freeze()  # what other tests have left is not looked through meanwhile
    began, error = time.thread_time(), ""
    try:
        work()
    except Invalid as found:
        error = str(found)
    finally:
        gc.unfreeze()
    return time.thread_time() - began, error


@pytest.mark.parametrize("what", HOSTILE)
def test_no_template_holds_the_loop(what: str) -> None:
    seconds, error = held_s(lambda: expand(HOSTILE[what], VALUES))
    assert seconds < LOOP_MAX_S
    assert len(error) < 1000


@pytest.mark.parametrize("what", HOSTILE)
def test_many_fields_of_one_service_take_no_more_than_one(what: str) -> None:
    text = HOSTILE[what][:20_000]
    mounts = [Mount(type="volume", source=f"{n}{text}", target=f"/{n}{text}") for n in range(30)]
    container = ContainerSpec(
        image="i", hostname=text, env=[f"A{n}={text}" for n in range(60)], mounts=mounts
    )
    spec = ServiceSpec(name="web", labels=LABELS, task_template=TaskSpec(container_spec=container))
    seconds, error = held_s(lambda: validate_service(spec))
    assert seconds < LOOP_MAX_S
    assert len(error) < 2000


def test_many_variables_with_templates_are_no_burden() -> None:
    env = [
        f'A{n}={{{{.Service.Name}}}}-{{{{.Task.Slot}}}}-{{{{printf "%s" .Node.Hostname}}}}'
        for n in range(400)
    ]
    found = expanded(ContainerSpec(env=env), VALUES, Budget())
    assert found.env[399] == "A399=web-1-host"


def test_what_a_manager_takes_a_node_can_do() -> None:
    """Names made up are shorter than a task's own: the node has room for that."""
    text = "{{range 1500}}{{$.Node.Hostname}}{{end}}"
    manager, node, taken = Budget(), task_budget(), 0
    while not held_s(lambda: expand(text, VALUES, budget=manager))[1]:
        taken += 1
    assert taken > 0
    for _ in range(2 * taken):
        expand(text, VALUES, budget=node)


def test_results_are_bounded_together() -> None:
    budget, text = Budget(), "{{.Task.Slot}}" + "x" * 400_000
    for _ in range(2):
        expand(text, VALUES, budget=budget)
    with pytest.raises(Invalid, match="more than 1048576 characters, all of them together"):
        expand(text, VALUES, budget=budget)
