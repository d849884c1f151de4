"""Request bodies and query values to our types; what is wrong with them becomes a 400 that says where."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import msgspec
from aiohttp import web
from msgspec import Struct

from skep.model.bounds import BODY_MAX_BYTES, ELEMENTS_MAX
from skep.model.since import ApiVersion
from skep.model.wire import canonical
from skep.runtime.errors import Invalid
from skep.runtime.unreadable import UNREADABLE

S = TypeVar("S", bound=Struct)
# What is kept with a request: its body, which may be asked for again or passed on to the leader, and the
# API's version that it is answered in.
BODY = web.RequestKey("body", bytes)
API_VERSION: web.RequestKey[ApiVersion] = web.RequestKey("api_version")
VERSION_DIGITS_MAX = 20  # of 2**64


async def read_body(request: web.Request, kind: type[S]) -> tuple[S, list[str]]:
    """Returns the body as `kind`, and the names of members that `kind` does not have.

    Errors: `Invalid` for what is not JSON, or of a wrong type, with the member's path.
    """
    return decode_body(await read_bytes(request), kind)


async def read_bytes(request: web.Request, max_bytes: int = BODY_MAX_BYTES) -> bytes:
    """Returns the whole body, and keeps it. Errors: `Invalid`, see `check_plain` and `read_whole`."""
    if BODY not in request:
        check_plain(request)
        request[BODY] = await read_whole(request, max_bytes)
    return request[BODY]


def check_plain(request: web.Request) -> None:
    """Errors: `Invalid` for a body that is compressed: Docker's own API unpacks none either."""
    coding = request.headers.get("Content-Encoding", "identity")
    if request.body_exists and coding.strip().lower() != "identity":
        raise Invalid(
            f"the request body cannot be read: its Content-Encoding is '{coding[:100]}', and must be none"
        )


async def read_whole(request: web.Request, max_bytes: int) -> bytes:
    """Returns the body as it was sent. Errors: `Invalid` for one too large, before it fills the memory."""
    parts, size = [], 0
    async for part in request.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > max_bytes:
            raise Invalid(f"the request body is larger than {max_bytes} bytes")
    return b"".join(parts)


def decode_body(raw: bytes, kind: type[S], elements_max: int = ELEMENTS_MAX) -> tuple[S, list[str]]:
    """See `read_body`."""
    if not raw:
        raise Invalid("got EOF while reading request body")
    try:
        value = msgspec.json.decode(raw)
    except UNREADABLE as error:
        raise Invalid(f"invalid JSON in the request body: {error}") from error
    if not isinstance(value, dict):
        raise Invalid("invalid request body: it must be a JSON object")
    check_elements(value, elements_max)
    unknown: list[str] = []
    try:
        return msgspec.convert(canonical(value, kind, unknown), kind), unknown
    except msgspec.ValidationError as error:
        raise Invalid(f"invalid request body: {error}") from error


def check_elements(value: object, elements_max: int = ELEMENTS_MAX) -> None:
    """Errors: `Invalid` for decoded JSON with more members and elements than anybody has a use for."""
    count, waiting = 0, [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            count += len(each)
            members: Iterable[object] = each.values()
        elif isinstance(each, list):
            count += len(each)
            members = each
        else:
            continue
        if count > elements_max:
            raise Invalid(
                f"the request body has more than {elements_max} members and elements of lists, all together"
            )
        waiting.extend(member for member in members if isinstance(member, dict | list))


def query_bool(request: web.Request, name: str) -> bool:
    """True for 1, true, t … (what Go's API takes for true)."""
    return request.query.get(name, "").strip().lower() not in ("", "0", "no", "false", "none")


def query_version(request: web.Request, kind: str) -> int:
    """Returns the object version an update carries. Errors: `Invalid`, in Docker's words."""
    text = request.query.get("version", "")
    if text.isascii() and text.isdigit() and len(text) <= VERSION_DIGITS_MAX and int(text) < 1 << 64:
        return int(text)
    raise Invalid(f"invalid {kind} version '{text[:100]}': an update needs the object's version")


def query_parsed_bool(request: web.Request, name: str, says_why: bool = True) -> bool:
    """Returns what Go's ParseBool makes of a value; False where there is none. Errors: `Invalid`."""
    text = request.query.get(name, "")
    if text in ("", "0", "f", "F", "FALSE", "false", "False"):
        return False
    if text in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    shown = text[:100]
    why = f': strconv.ParseBool: parsing "{shown}": invalid syntax' if says_why else ""
    raise Invalid(f"invalid value for {name}: {shown}{why}")
