"""Takes the steps of a scenario on one side."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote

import docker

from tests.images import IMAGE

from .compare import Outcome
from .normalise import normal_json, normal_output, normal_text
from .scenario import Call, Events, Power, Py, Run, Scenario, Settle, Step, Until, Update
from .sides import Side

_OF = re.compile(r"\$(ID|VERSION)\{([^}]+)\}")


class Runner:
    def __init__(self, side: Side, directory: Path) -> None:
        self._side = side
        self._directory = directory
        self._began = 0.0

    def run(self, scenario: Scenario) -> list[Outcome]:
        self._began = time.time()
        found = []
        for step in scenario.steps:
            try:
                found.append(Outcome(step.label, self._take(step)))
            except TimeoutError as error:
                return [*found, Outcome(step.label, {"waited in vain": str(error)})]
        return found

    def _take(self, step: Step) -> dict[str, Any]:
        match step:
            case Run():
                return self._run(step)
            case Call():
                path, body = self._filled(step.path), self._filled_json(step.body)
                return self._answer(step.method, path, body, step)
            case Update():
                return self._update(step)
            case Py():
                return self._py(step)
            case Settle():
                self._settle(step)
            case Until():
                self._until(step)
            case Power():
                machine = self._side.at(step.machine)
                machine.plug_in() if step.is_on else machine.pull_plug()
            case Events():
                return {"events": self._events(step.kind)}
        return {}

    def _run(self, step: Run) -> dict[str, Any]:
        arguments = shlex.split(self._filled(step.line))
        machine = self._side.at(step.at)
        done = machine.docker(*arguments, stdin=step.stdin, environment=dict(step.environment))
        printed = done.stdout
        if _is_in_any_order(arguments):
            printed = "".join(sorted(printed.splitlines(keepends=True)))
        if arguments[:2] == ["service", "logs"] and "--no-task-ids" in arguments:  # nodes come in any order
            lines = printed.splitlines(keepends=True)
            printed = "".join(sorted(lines, key=lambda line: line.partition("|")[0]))
        return {
            "exit": done.returncode,
            "stdout": normal_output(self._plain(printed), self._side.names),
            "stderr": normal_output(self._plain(done.stderr), self._side.names),
        }

    def _answer(self, method: str, path: str, body: Any, step: Call) -> dict[str, Any]:
        reply = self._side.at(step.at).call(method, path, body, api=step.api)
        text = reply.body.decode(errors="replace")
        parsed: Any = normal_output(self._plain(text), self._side.names)
        if step.only and isinstance(parsed, dict):
            parsed = {member: _member(parsed, member) for member in step.only}
        return {
            "status": reply.status,
            **{name: reply.headers.get(name) for name in step.headers},
            "body": parsed,
        }

    def _update(self, step: Update) -> dict[str, Any]:
        path = self._filled(step.path)
        found = self._side.call("GET", path).json()
        spec = _merged(found["Spec"], self._filled_json(step.changes))
        query = f"version={found['Version']['Index']}" + (f"&{step.query}" if step.query else "")
        return self._answer("POST", f"{path}/update?{query}", spec, Call("POST", step.path))

    def _py(self, step: Py) -> dict[str, Any]:
        client = docker.DockerClient(base_url=f"unix://{self._side.first.socket}", version="1.41")
        try:
            return {"value": normal_json(step.do(client), self._side.names)}
        except (docker.errors.DockerException, ValueError) as error:
            text = str(getattr(error, "explanation", None) or error)
            status = getattr(getattr(error, "response", None), "status_code", None)
            return {
                "raises": type(error).__name__,
                "status": status,
                "text": normal_text(self._plain(text), self._side.names),
            }
        finally:
            client.close()

    def _settle(self, step: Settle) -> None:
        filters = quote(json.dumps({"service": {step.service: True}}))

        def settled() -> bool:
            reply = self._side.call("GET", f"/tasks?filters={filters}")
            if reply.status != 200:
                raise TimeoutError(f"{step.label}: {reply.body.decode()}")
            tasks = reply.json()
            # A pending task says why a moment later.
            states = Counter(
                task["Status"]["State"]
                for task in tasks
                if task["Status"].get("Err") or task["Status"]["State"] != "pending"
            )
            return all(states[state] == count for state, count in step.states.items())

        self._side.wait_for(step.label, settled)

    def _until(self, step: Until) -> None:
        path, machine = self._filled(step.path), self._side.at(step.at)
        self._side.wait_for(
            step.label, lambda: _member(machine.call("GET", path).json(), step.member) == step.value
        )

    def _events(self, kind: str) -> list[str]:
        """In the order in which they came; what Docker says of an older kind of client is left out."""
        filters = quote(json.dumps({"type": {kind: True}}))
        window = f"since={self._began:.9f}&until={time.time():.9f}"
        lines = self._side.call("GET", f"/events?filters={filters}&{window}").body.decode().splitlines()
        found = [normal_json(json.loads(line), self._side.names) for line in lines]
        return [
            json.dumps({key: each.get(key) for key in ("Type", "Action", "Actor", "scope")}, sort_keys=True)
            for each in found
        ]

    def _filled(self, text: str) -> str:
        text = text.replace("$IMAGE", IMAGE).replace("$DIR", str(self._directory))
        for name, value in self._side.variables.items():
            if name in text:
                text = text.replace(name, value())
        return _OF.sub(self._of, text)

    def _of(self, found: re.Match[str]) -> str:
        item = self._side.call("GET", found[2]).json()
        return str(item["Version"]["Index"] if found[1] == "VERSION" else item.get("ID") or item["Id"])

    def _filled_json(self, value: Any) -> Any:
        return json.loads(self._filled(json.dumps(value))) if not isinstance(value, bytes) else value

    def _plain(self, text: str) -> str:
        return text.replace(str(self._directory), "$DIR").replace(str(self._side.directory), "$SIDE")


def _member(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _merged(value: Any, changes: Any) -> Any:
    if not isinstance(value, dict) or not isinstance(changes, dict):
        return changes
    kept = {k: v for k, v in value.items() if changes.get(k, v) is not None}
    return kept | {k: _merged(value.get(k), v) for k, v in changes.items() if v is not None}


def _is_in_any_order(arguments: list[str]) -> bool:
    """The client takes what is in a file in any order, Docker lists networks so, and which slot of a service is on
    which node is chance: without their names, its tasks are compared as a set."""
    if arguments[:2] in (["stack", "deploy"], ["stack", "rm"]):
        return True
    has_names = "{{.Name}}" in " ".join(arguments) or "json" in arguments
    return arguments[:2] == ["service", "ps"] and "--format" in arguments and not has_names
