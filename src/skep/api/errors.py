"""Errors to HTTP, in one table, with Docker's body `{"message": …}`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import structlog
from aiohttp import web

from skep.api.filters import BadFilterValue
from skep.runtime import attempt
from skep.runtime.errors import (
    Conflict,
    Corrupt,
    Denied,
    Deposed,
    Invalid,
    NoLeader,
    NoSuchAuth,
    NotFound,
    SkepError,
    StaleVersion,
    Unavailable,
    Unsupported,
    WrongUnlockKey,
)

log = structlog.get_logger()

# The first class that fits counts. A stale version is Docker's own 500, whose text clients match.
STATUSES: tuple[tuple[type[SkepError], int], ...] = (
    (StaleVersion, 500),
    (BadFilterValue, 500),
    (NoSuchAuth, 500),
    (Invalid, 400),
    (NotFound, 404),
    (Conflict, 409),
    (Deposed, 503),
    (WrongUnlockKey, 401),
    (Denied, 403),
    (Unsupported, 501),
    (Unavailable, 503),
    (Corrupt, 500),
)
_PREFIXES: dict[type[SkepError], str] = {StaleVersion: "rpc error: code = Unknown desc = "}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


NO_LEADER = "Skep-No-Leader"  # a header: nothing was done, another manager may do it


def error_response(status: int, message: str) -> web.Response:
    body = msgspec.json.encode({"message": message})
    return web.Response(status=status, body=body + b"\n", content_type="application/json")


def status_of(error: SkepError) -> int:
    """Returns the HTTP status of an error of ours."""
    return next((status for kind, status in STATUSES if isinstance(error, kind)), 500)


async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Runs a handler; what it raises becomes Docker's error body, never a trace."""
    try:
        return await handler(request)
    except SkepError as error:
        response = error_response(status_of(error), _PREFIXES.get(type(error), "") + str(error))
        if isinstance(error, NoLeader | Deposed) and not attempt.has_written():
            response.headers[NO_LEADER] = "true"
        return response
    except web.HTTPException as error:
        message = "page not found" if error.status == 404 else error.text or error.reason
        return error_response(error.status, message)
    except web.RequestPayloadError as error:  # in chunks that are none, cut short
        return error_response(400, "the request body cannot be read: " + " ".join(str(error).split()))
    except ConnectionResetError:
        return web.Response(status=499)  # never sent: the client went away in the middle of its answer
    except asyncio.CancelledError:
        raise
    except Exception:
        log.exception("api.failed", method=request.method, path=request.path)
        return error_response(500, "internal error: skepd's log says more")
