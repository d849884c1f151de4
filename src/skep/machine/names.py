"""What a machine may be called: the name is a directory here, and the host's own name there. Pure."""

from __future__ import annotations

import ipaddress
import re

from skep.runtime.errors import Invalid

LENGTH_MAX = 63  # a label of DNS, which a host's name is
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9.-]*")
_ADDRESS = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9.-]*|[0-9a-fA-F:]*:[0-9a-fA-F:.]*")
ADDRESS_LENGTH_MAX = 253  # a name of DNS
_LABELS = re.compile(r"(?:\*\.)?[a-zA-Z0-9_-]{1,63}(?:\.[a-zA-Z0-9_-]{1,63})*\.?")


def check_name(name: str) -> str:
    """Returns the name. Errors: `Invalid`, in docker-machine's words."""
    if not _NAME.fullmatch(name) or len(name) > LENGTH_MAX:
        raise Invalid(
            f'Invalid machine name "{name}": letters, digits, dashes and dots are allowed,'
            f" {LENGTH_MAX} at most, and a letter or digit comes first"
        )
    return name


def check_address(text: str) -> str:
    """Returns a host's name or IP address. Errors: `Invalid`."""
    if not _ADDRESS.fullmatch(text):
        raise Invalid(f"'{text}' is neither an IP address nor a host's name")
    return check_certified(text)


def check_certified(text: str) -> str:
    """Returns what a certificate may be for: an IP address, or a name of DNS, also `*.` and one. Errors:
    `Invalid`."""
    try:
        ipaddress.ip_address(text.partition("%")[0])
        is_good = "%" not in text  # an interface's name, which is one host's alone
    except ValueError:
        is_good = _LABELS.fullmatch(text) is not None and len(text) <= ADDRESS_LENGTH_MAX
    if not is_good:
        raise Invalid(f"'{text}' is neither an IP address nor a host's name")
    return text


def bracketed(address: str) -> str:
    """Returns an address as URLs have it: those of IPv6 in brackets."""
    return f"[{address}]" if ":" in address else address
