"""What a machine may be called: the name is a directory here, and the host's own name there; many at once as
belt had them, `w[1:50]`. Pure."""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Iterable, Sequence

from skep.runtime.errors import Invalid

LENGTH_MAX = 63  # a label of DNS, which a host's name is
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9.-]*")
_ADDRESS = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9.-]*|[0-9a-fA-F:]*:[0-9a-fA-F:.]*")
ADDRESS_LENGTH_MAX = 253  # a name of DNS
NAMES_MAX = 10_000  # of one command: four times the largest swarm that there was; w[1:999999999] is a slip
_RANGE = re.compile(r"\[([0-9]{1,9}):([0-9]{1,9})\]")
_NUMBERED = re.compile(r"(.*?)([0-9]{1,9})")
_USER = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.@+-]{0,63}\$?")
_LABELS = re.compile(r"(?:\*\.)?[a-zA-Z0-9_-]{1,63}(?:\.[a-zA-Z0-9_-]{1,63})*\.?")


def check_name(name: str) -> str:
    """Returns the name. Errors: `Invalid`, in docker-machine's words."""
    if not _NAME.fullmatch(name) or len(name) > LENGTH_MAX:
        raise Invalid(
            f'Invalid machine name "{name}": letters, digits, dashes and dots are allowed,'
            f" {LENGTH_MAX} at most, and a letter or digit comes first"
        )
    return name


def expand_names(texts: Iterable[str]) -> tuple[str, ...]:
    """Returns machines' names, each once, with all of each range. Errors: `Invalid`."""
    names: dict[str, None] = {}
    for text in texts:
        names |= dict.fromkeys(map(check_name, expand(text)))
        if len(names) > NAMES_MAX:
            raise _too_many(text)
    return tuple(names)


def expand(text: str) -> list[str]:
    """Returns what a text with ranges stands for: `w[1:3]` is w1, w2, w3, `w[08:10]` is w08, w09, w10; of
    several ranges the last one changes first. Errors: `Invalid`."""
    parts: list[list[str]] = []
    end = 0
    for found in _RANGE.finditer(text):
        parts.append([_without_brackets(text, text[end : found.start()])])
        parts.append(_numbers(text, found[1], found[2]))
        end = found.end()
    parts.append([_without_brackets(text, text[end:])])
    count = 1
    for part in parts:
        count *= len(part)
        if count > NAMES_MAX:
            raise _too_many(text)
    return ["".join(each) for each in itertools.product(*parts)]


def compact(names: Sequence[str]) -> list[str]:
    """Returns names as they may be typed: those in a row as a range. `expand` makes the same of it."""
    found: list[str] = []
    for _, group in itertools.groupby(enumerate(names), _row_of):
        row = [name for _, name in group]
        first, last = _NUMBERED.fullmatch(row[0]), _NUMBERED.fullmatch(row[-1])
        if len(row) > 2 and first and last:
            found.append(f"{first[1]}[{first[2]}:{last[2]}]")
        else:
            found += row
    return found


def _row_of(numbered: tuple[int, str]) -> tuple[object, ...]:
    """Returns what names in a row have in common: all but the number, and its distance to their places."""
    place, name = numbered
    found = _NUMBERED.fullmatch(name)
    if found is None:
        return (place,)
    number = found[2]
    # Of w9 and w10 one is no padded number, and of w09 and w10 both may be.
    width = len(number) if number.startswith("0") and number != "0" else 0
    return found[1], width, int(number) - place


def _numbers(text: str, first: str, last: str) -> list[str]:
    if int(first) > int(last):
        raise Invalid(f"{text}: the range [{first}:{last}] ends before it begins")
    if int(last) - int(first) >= NAMES_MAX:
        raise _too_many(text)
    width = len(first) if first.startswith("0") else 0
    return [str(number).zfill(width) for number in range(int(first), int(last) + 1)]


def _without_brackets(text: str, part: str) -> str:
    if "[" in part or "]" in part:
        raise Invalid(f"{text}: a range is [FIRST:LAST], two numbers, as in w[1:50] or w[01:50]")
    return part


def _too_many(text: str) -> Invalid:
    return Invalid(f"{text}: more than {NAMES_MAX:,} at once")


def check_address(text: str) -> str:
    """Returns a host's name or IP address. Errors: `Invalid`."""
    if not _ADDRESS.fullmatch(text):
        raise Invalid(f"'{text}' is neither an IP address nor a host's name")
    return check_certified(text)


def check_user(text: str) -> str:
    """Returns a user's name of a host: it goes into look-ups and commands of the user's configuration of SSH.
    Errors: `Invalid`."""
    if not _USER.fullmatch(text):
        raise Invalid(f"'{text[:80]}' is no user's name")
    return text


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
