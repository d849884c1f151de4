"""How a program loads what it is about to use."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Looks for no garbage meanwhile: modules stay, and looking through them takes a fifth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
