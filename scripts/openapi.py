#!/usr/bin/env python3
"""Writes docs/openapi.json from the routes and types there are: `scripts/openapi.py > docs/openapi.json`."""

from __future__ import annotations

import json
import sys
from typing import Any, cast

from skep.api.engine import LocalEngine
from skep.api.openapi import openapi
from skep.daemon.node import SkepNode
from skep.daemon.serving import make_routes
from skep.runtime.settings import Settings
from skep.runtime.stall import StallWatch


def document() -> dict[str, Any]:
    """Returns the document; the routes are only looked at, so no node is behind them."""
    settings, nobody = Settings(name="x", engine="simulated"), cast("SkepNode", None)
    return openapi(make_routes(settings, nobody, LocalEngine(None), StallWatch(), None))


def text() -> str:
    return json.dumps(document(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
