"""Go's templates over what is printed of machines (`-f`, `--format`). Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from skep.model.template import Fields, expand


def filled(text: str, values: dict[str, Any]) -> str:
    """Returns the template carried out. Errors: `Invalid`."""
    return expand(text, Fields(values), {"json": _json, "prettyjson": _pretty_json})


def shown(values: dict[str, Any], form: str) -> str:
    """Returns values as they are asked for: `json`, on a line, or by a template. Errors: `Invalid`."""
    return _json(values) if form == "json" else filled(form, values)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _pretty_json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=4).decode()
