#!/usr/bin/env python3
"""Writes docs/openapi.json from the routes and types there are: `scripts/openapi.py > docs/openapi.json`."""

from __future__ import annotations

import json
import sys
from typing import Any, cast

from skep.api.engine import LocalEngine
from skep.api.interfaces import SwarmNode
from skep.api.openapi import openapi
from skep.api.routes import ApiContext, all_routes
from skep.runtime.stall import StallWatch


def document() -> dict[str, Any]:
    """Returns the document; the routes are only looked at, so no node is behind them."""
    nobody = cast("SwarmNode", None)
    return openapi(all_routes(ApiContext(nobody, LocalEngine(None), "x", StallWatch())))


def text() -> str:
    return json.dumps(document(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
