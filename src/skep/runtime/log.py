"""Structured logs: for people on a terminal, one JSON object per line elsewhere."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import TextIO, cast

import msgspec

# structlog loads rich where it is there, for tracebacks with local variables: among ours are keys. A daemon
# starts sooner by a tenth without. Who else wants rich imports it as ever.
sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
import structlog  # noqa: E402

if sys.modules["rich"] is None:
    del sys.modules["rich"]

get_logger = structlog.get_logger


def set_up_logging(level: str, form: str) -> None:
    """`form` is text, json, or auto (text on a terminal). Logs go to the error output."""
    number = logging.getLevelNamesMapping()[level.upper()]
    as_text = form == "text" or (form == "auto" and sys.stderr.isatty())
    outlet = Outlet(sys.stderr.fileno(), _lost_as_text if as_text else _lost_as_json)
    renderer: structlog.types.Processor
    if as_text:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            # The default shows local variables where it can: among them are keys.
            exception_formatter=structlog.dev.plain_traceback,
        )
    else:
        renderer = structlog.processors.JSONRenderer()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(number),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if not as_text else _as_is,
            renderer,
        ],
        # It has what is written to of a file.
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", outlet)),
    )
    logging.basicConfig(level=logging.WARNING, stream=outlet, format="%(name)s: %(message)s")


class Outlet:
    """Lines to a file that never stop who writes them: the disk below a log may be full, or its reader gone.

    What could not be written is counted; as soon as something can, `lost` gives the line that says how many.
    """

    def __init__(self, descriptor: int, lost: Callable[[int], str]) -> None:
        self._descriptor = descriptor
        self._lost = lost
        self._lost_count = 0
        self._is_torn = False  # a line's beginning is there

    def write(self, line: str) -> int:
        before = ("\n" if self._is_torn else "") + (self._lost(self._lost_count) if self._lost_count else "")
        data = (before + line).encode(errors="backslashreplace")
        written = 0
        try:
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
        except OSError:
            self._is_torn = self._is_torn or written > 0
            self._lost_count += 1
        else:
            self._is_torn, self._lost_count = False, 0
        return len(line)

    def flush(self) -> None:
        """Everything is written at once."""


def _lost_as_text(count: int) -> str:
    return f"log.lost lines={count}\n"


def _lost_as_json(count: int) -> str:
    line = msgspec.json.encode({"lines": count, "event": "log.lost", "level": "warning"})
    return f"{line.decode()}\n"


def _as_is(logger: object, name: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    return event
