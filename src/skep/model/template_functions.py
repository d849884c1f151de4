"""The functions of Go's templates, and how Go prints and compares values. Pure.

What is wrong raises `Wrong`; `model.template` adds where.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from urllib.parse import quote_plus

WIDTH_MAX = 200  # of printf: a form full of wide verbs must not fill the memory
TEXT_MAX_CHARS = 1 << 20  # of one value: the largest secret has half of that
_VERB = re.compile(r"%([-+# 0]*)(\d*)(?:\.(\d*))?(.)", re.S)
_JS = {
    "\\": "\\\\",
    "'": "\\'",
    '"': '\\"',
    "<": "\\u003C",
    ">": "\\u003E",
    "&": "\\u0026",
    "=": "\\u003D",
    **{chr(code): f"\\u{code:04X}" for code in range(32)},
}
_HTML = {"&#x27;": "&#39;", "&quot;": "&#34;", "\0": "\ufffd"}
_KINDS: tuple[tuple[type, str], ...] = ((bool, "bool"), (int, "int"), (float, "float64"), (str, "string"))


class Wrong(Exception):
    """A function was given what it cannot do anything with."""


class Fields(dict[str, object]):
    """What is a struct in Go: it has these members and no others, where a map has any."""


def is_character(code: int) -> bool:
    """Returns whether a number stands for a character: the halves of UTF-16's pairs do not."""
    return 0 <= code < 0xD800 or 0xE000 <= code <= 0x10FFFF


def character(code: int) -> str:
    """Returns the character of a number; U+FFFD where there is none, as no text could have it."""
    return chr(code) if is_character(code) else "\ufffd"


def is_true(value: object) -> bool:
    """Returns what `if` makes of a value: empty and zero are false, a struct is true."""
    return isinstance(value, Fields) or bool(value)


def printed(value: object) -> str:
    """Returns the value as an action writes it."""
    if value is None:
        return "<no value>"
    return _shown(value)


def _shown(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, Fields):
        return "{" + " ".join(_shown(each) for each in value.values()) + "}"
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{_shown(k)}:{_shown(value[k])}" for k in sorted(value)) + "]"
    if isinstance(value, list | tuple):
        return "[" + " ".join(_shown(each) for each in value) + "]"
    return "<nil>" if value is None else str(value)


def _float(value: float) -> str:
    """Go's %v: the shortest that reads back, with an exponent below -4 and from 6 on."""
    number = Decimal(repr(value)).normalize()
    exponent = number.adjusted()
    if value and not -4 <= exponent < 6:
        digits = str(abs(number).scaleb(-exponent))
        return f"{'-' if value < 0 else ''}{digits}e{exponent:+03d}"
    return f"{number:f}"


def _kind(value: object) -> str:
    for kind, name in _KINDS:
        if isinstance(value, kind):
            return name
    if value is None:
        return "nil"
    return "struct" if isinstance(value, Fields) else "map" if isinstance(value, Mapping) else "slice"


def _length(value: object) -> int:
    if isinstance(value, Fields) or not isinstance(value, str | Mapping | list | tuple):
        raise Wrong(f"len of type {_kind(value)}")
    return len(value.encode()) if isinstance(value, str) else len(value)


def _index(value: object, *keys: object) -> object:
    for key in keys:
        if isinstance(value, Mapping) and not isinstance(value, Fields):
            if not isinstance(key, str):
                raise Wrong(f"value has type {_kind(key)}; should be string")
            value = value.get(key, "")
        elif isinstance(value, str | list | tuple):
            items = value.encode() if isinstance(value, str) else value
            value = items[_position(key, len(items) - 1)]
        else:
            raise Wrong(f"can't index item of type {_kind(value)}")
    return value


def _position(key: object, last: int) -> int:
    if isinstance(key, bool) or not isinstance(key, int):
        raise Wrong(f"cannot index slice/array with type {_kind(key)}")
    if not 0 <= key <= last:
        raise Wrong(f"index out of range: {key}")
    return key


def _slice(value: object, *ends: object) -> object:
    if not isinstance(value, str | list | tuple) or len(ends) > 2:
        raise Wrong(f"can't slice item of type {_kind(value)}" if len(ends) < 3 else "too many slice indexes")
    items = value.encode() if isinstance(value, str) else value
    first, stop = [*(_position(end, len(items)) for end in ends), *(0, len(items))[len(ends) :]]
    if first > stop:
        raise Wrong(f"invalid slice index: {first} > {stop}")
    part = items[first:stop]
    return part.decode(errors="replace") if isinstance(part, bytes) else part


def _equal(first: object, *others: object) -> bool:
    if not others:
        raise Wrong("missing argument for comparison")
    for other in others:
        kinds = _kind(first), _kind(other)
        if "nil" not in kinds and kinds[0] != kinds[1]:
            raise Wrong("incompatible types for comparison")
        if kinds[0] in ("map", "slice", "struct") or kinds[1] in ("map", "slice", "struct"):
            raise Wrong(f"non-comparable type {kinds[0]}")
    return any(first == other for other in others)


def _less(first: object, second: object) -> bool:
    if isinstance(first, bool) or isinstance(second, bool):
        raise Wrong("invalid type for comparison")
    if isinstance(first, str) and isinstance(second, str):
        return first < second
    for kind in (int, float):
        if isinstance(first, kind) and isinstance(second, kind):
            return first < second
    raise Wrong("incompatible types for comparison")


def _print(*values: object) -> str:
    """Go's: a space between two values where neither is a string."""
    text = ""
    for number, value in enumerate(values):
        if number and not isinstance(value, str) and not isinstance(values[number - 1], str):
            text += " "
        text += _shown(value)
    return text


def _printf(form: object, *values: object) -> str:
    if not isinstance(form, str):
        raise Wrong(f"wrong type for value; expected string; got {_kind(form)}")
    left = list(values)

    def one(found: re.Match[str]) -> str:
        flags, width, precision, verb = found.groups()
        if verb == "%":
            return "%"
        if not left:
            return f"%!{verb}(MISSING)"
        text = _verb(verb, flags, precision, left.pop(0))
        size = min(int(width or 0), WIDTH_MAX)
        if "-" in flags:
            return text.ljust(size)
        if "0" in flags and verb != "q" and text[:1] in ("+", "-"):
            return text[0] + text[1:].rjust(size - 1, "0")
        return text.rjust(size, "0" if "0" in flags else " ")

    text = _VERB.sub(one, form)
    if text.endswith("%") and re.search(r"(?:^|[^%])(?:%%)*%$", form):
        text = text[:-1] + "%!(NOVERB)"
    if left:
        text += "%!(EXTRA " + ", ".join(f"{_kind(v)}={_shown(v)}" for v in left) + ")"
    return text


def _verb(verb: str, flags: str, precision: str | None, value: object) -> str:
    plus = "+" if "+" in flags else " " if " " in flags else ""
    digits = min(int(precision or 0), WIDTH_MAX) if precision is not None else None
    if verb == "v":
        return _shown(value)
    if verb == "T":
        return _kind(value)
    if isinstance(value, str):
        cut = value if digits is None else value[:digits]
        if verb == "s":
            return cut
        if verb == "q":
            return _quoted(cut)
        if verb in "xX":
            return cut.encode().hex() if verb == "x" else cut.encode().hex().upper()
    elif isinstance(value, bool):
        if verb == "t":
            return _shown(value)
    elif isinstance(value, int):
        if verb in "dxXob":
            if digits is not None:
                text = format(abs(value), verb).rjust(digits, "0")
                return ("-" if value < 0 else plus.strip()) + text
            return format(value, plus + ("#" if "#" in flags and verb != "d" else "") + verb)
        if verb in "cq":
            return character(value) if verb == "c" else f"'{character(value)}'"
        if verb == "U":
            return f"U+{value:04X}"
    elif isinstance(value, float):
        if verb in "feEgG":
            return format(value, f"{plus}.{6 if digits is None else digits}{verb}")
    elif verb == "s" and value is not None:
        return _shown(value)
    return f"%!{verb}({_kind(value)}={_shown(value)})" if value is not None else f"%!{verb}(<nil>)"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    for sign, letter in (("\n", "n"), ("\t", "t"), ("\r", "r"), ("\a", "a"), ("\b", "b"), ("\f", "f")):
        escaped = escaped.replace(sign, "\\" + letter)
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda c: f"\\x{ord(c[0]):02x}", escaped) + '"'


def _html(*values: object) -> str:
    escaped = html.escape(_print(*values))
    for ours, gos in _HTML.items():
        escaped = escaped.replace(ours, gos)
    return escaped


def _join(*texts: object) -> str:
    """swarmkit's own: the first argument between the others."""
    if not texts or not all(isinstance(each, str) for each in texts):
        raise Wrong("join wants a separator and texts")
    separator, *others = (str(each) for each in texts)
    if len(separator) * len(others) > TEXT_MAX_CHARS:
        raise Wrong(f"the result has more than {TEXT_MAX_CHARS} characters")
    return separator.join(others)


# `and` and `or` are not here: they look at no more than they need (`model.template`).
FUNCTIONS: dict[str, Callable[..., object]] = {
    "not": lambda value: not is_true(value),
    "len": _length,
    "index": _index,
    "slice": _slice,
    "print": _print,
    "println": lambda *values: " ".join(_shown(value) for value in values) + "\n",
    "printf": _printf,
    "html": _html,
    "js": lambda *values: "".join(_JS.get(sign, sign) for sign in _print(*values)),
    "urlquery": lambda *values: quote_plus(_print(*values)),
    "eq": _equal,
    "ne": lambda first, second: not _equal(first, second),
    "lt": _less,
    "le": lambda first, second: _less(first, second) or _equal(first, second),
    "gt": lambda first, second: not (_less(first, second) or _equal(first, second)),
    "ge": lambda first, second: not _less(first, second),
    "join": _join,
}
