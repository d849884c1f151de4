"""What the dashboard answers at all: whose requests, and what of the swarm's API it passes on. Pure.

A page of another site can have a browser send requests here, and can have its own name lead here (DNS
rebinding); neither may read or order anything.
"""

from __future__ import annotations

import re

# What a browser may call this machine; the port is another one where somebody forwards it (ssh -L).
_OWN_NAMES = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?")
# What a browser says of who asks (Fetch Metadata); `none`: the user, by typing it.
_OWN_SITES = ("same-origin", "none")

_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}"  # of an object, or its id: no more than Docker has in names
_READ = (
    r"/(info|version|events|nodes|services|tasks|networks|secrets|configs)",
    rf"/(nodes|services|tasks|networks)/{_NAME}",
    rf"/(services|tasks)/{_NAME}/logs",
    rf"/skep/v1/(services|tasks)/{_NAME}/explain",
    r"/skep/v1/(stats|asides|metrics)",
    r"/skep/v1/(nodes|tasks)/usage",
)
_ORDERS = (rf"/(services|nodes)/{_NAME}/update",)
_PASSED = {method: re.compile("|".join(paths)) for method, paths in (("GET", _READ), ("POST", _ORDERS))}
_ENDLESS = re.compile(r"/events|.*/logs")

ACTIONS = ("scale", "force", "rollback", "availability", "role")  # what the two orders are for


def is_own_host(host: str) -> bool:
    """True where a request's Host header names this machine itself."""
    return _OWN_NAMES.fullmatch(host) is not None


def is_own_page(host: str, origin: str | None, site: str | None) -> bool:
    """True where a request comes of a page of ours, or of the user: by its headers Origin and Sec-Fetch-Site,
    which browsers send and no page can change."""
    if origin is not None and origin != f"http://{host}":
        return False
    return site is None or site in _OWN_SITES


def may_pass(method: str, path: str) -> bool:
    """True where a request goes to the swarm's API. `path` is as it came, its escapes unread."""
    pattern = _PASSED.get(method)
    return pattern is not None and pattern.fullmatch(path) is not None


def is_endless(path: str) -> bool:
    """True for what may go on until somebody ends it."""
    return _ENDLESS.fullmatch(path) is not None
