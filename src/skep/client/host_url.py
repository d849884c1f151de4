"""Where a daemon is asked, as Docker's programs write it."""

from __future__ import annotations

from skep.runtime.errors import Invalid

UNIX, TCP = "unix://", "tcp://"


def check_host_url(url: str) -> None:
    """Errors: `Invalid` for what is neither a unix socket nor a host."""
    if not any(url.startswith(scheme) and len(url) > len(scheme) for scheme in (UNIX, TCP)):
        raise Invalid(f"a host must be unix://PATH or tcp://HOST:PORT, not '{url}'")
