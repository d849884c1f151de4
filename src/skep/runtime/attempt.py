"""Whether the API request that is carried out has changed the store: one that has is never begun again.

A manager may lose the lead between a request's write and its answer. Who asks again would then be refused,
because of what he has done himself.
"""

from __future__ import annotations

from contextvars import ContextVar


class _Attempt:
    has_written = False


_current: ContextVar[_Attempt | None] = ContextVar("attempt", default=None)


def begin() -> None:
    """A request begins; what its handler starts from now on belongs to it."""
    _current.set(_Attempt())


def wrote() -> None:
    """The store was changed; outside a request it is nobody's."""
    attempt = _current.get()
    if attempt is not None:
        attempt.has_written = True


def has_written() -> bool:
    attempt = _current.get()
    return attempt is not None and attempt.has_written
