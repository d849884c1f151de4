"""Every operation of docs/openapi.json with what its schema allows, and with what it does not (schemathesis)."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from .target import Target, check

pytestmark = pytest.mark.timeout(600)
DOCUMENT = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text())
EXAMPLES = {GenerationMode.POSITIVE: 6, GenerationMode.NEGATIVE: 2}  # those that are wrong take long to make
# Streams, and what would leave the swarm, or speak to who is named in the request.
LEFT_OUT = {"GET /skep/v1/backup", "POST /skep/v1/restore", "POST /skep/v1/reconnect", "POST /swarm/leave"}
NO_END = {"GET /events", "GET /services/{id}/logs", "GET /tasks/{id}/logs"}


def operations() -> dict[str, Any]:
    found = (each.ok() for each in schemathesis.openapi.from_dict(DOCUMENT).get_all_operations())
    return {each.label: each for each in found if each.label not in LEFT_OUT}


def has_body(label: str) -> bool:
    method, path = label.split(" ")
    return "requestBody" in DOCUMENT["paths"][path][method.lower()]


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: str(mode.value))
def test_no_operation_fails_but_as_dockers(target: Target, mode: GenerationMode) -> None:
    tried = 0
    for label, operation in operations().items():
        if mode is GenerationMode.NEGATIVE and target.factor == 1 and not has_body(label):
            continue  # odd paths are test_raw's
        with contextlib.suppress(Unsatisfiable):  # nothing can be wrong with what takes nothing
            examples = EXAMPLES[mode] * target.factor
            _try(target, label, operation.as_strategy(generation_mode=mode), examples)
            tried += 1
    assert tried > (5 if mode is GenerationMode.NEGATIVE else 30)


def _try(target: Target, label: str, strategy: Any, examples: int) -> None:
    @seed(20)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(strategy)
    def one(case: Any) -> None:
        if label in NO_END:
            case.query = {**(case.query or {}), "until": "1", "follow": "false"}
        if isinstance(case.body, dict):
            case.body.pop("ForceNewCluster", None)
        answer = case.call(base_url=target.url, timeout=20)
        try:
            message = str(answer.json()["message"])
        except (ValueError, KeyError, TypeError):
            message = str(answer.content[:200])
        check(answer.status_code, message, f"{label} {case.query} {str(case.body)[:500]}")

    one()
