"""docs/openapi.json is what the routes and types are."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from tests.api_process import running_api

ROOT = Path(__file__).parents[3]


def test_the_document_is_as_the_code() -> None:
    made = runpy.run_path(str(ROOT / "scripts" / "openapi.py"))["text"]()
    kept = (ROOT / "docs" / "openapi.json").read_text()
    assert made == kept, "run: .venv/bin/python scripts/openapi.py > docs/openapi.json"


def test_every_reference_leads_somewhere() -> None:
    document = json.loads((ROOT / "docs" / "openapi.json").read_text())
    schemas = document["components"]["schemas"]
    text = json.dumps(document)
    for part in text.split('"$ref": "')[1:]:
        assert part.split('"')[0].removeprefix("#/components/schemas/") in schemas
    assert schemas["ServiceSpec"]["properties"]["TaskTemplate"]


@pytest.mark.real_time  # the API answers at a socket
async def test_a_daemon_gives_its_own() -> None:
    async with running_api() as api:
        answer = await api.ask("GET", "/skep/v1/openapi.json")
        assert answer.json == json.loads((ROOT / "docs" / "openapi.json").read_text())
