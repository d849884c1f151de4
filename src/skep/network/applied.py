"""What has become of what a node's kernel was to have. Pure."""

from __future__ import annotations

from msgspec import Struct


class Applied(Struct, frozen=True):
    """`failures` are sentences for people; none where all is as it should be. `lingers`: something that
    nobody needs any more is still there, and goes at a later look. `vips` are services' own addresses that
    the kernel leads to their tasks, `unsure` addresses of large networks of which it is not known any more
    whether somebody has them. `has_lost`: there may be
    connections to tasks that are gone (`DataPlane.forget`)."""

    failures: tuple[str, ...] = ()
    changed: int = 0  # objects
    lingers: bool = False
    vips: frozenset[str] = frozenset()
    unsure: frozenset[str] = frozenset()
    has_lost: bool = False
