"""/board and /board/stream: the board as a page is told of it."""

from __future__ import annotations

from aiohttp import hdrs, web

from skep.runtime.tape import Piece
from skep.web.followed_board import FollowedBoard

WRITE_BYTES = 64 << 10  # at once: what waits for one page, whatever it is sent


async def whole_board(request: web.Request, board: FollowedBoard) -> web.StreamResponse:
    """Answers with the snapshot. Errors: `Unavailable`."""
    data, packed = await board.file()
    answer = web.Response(body=data, content_type="application/json")
    if "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, ""):
        answer.body = packed
        answer.headers[hdrs.CONTENT_ENCODING] = "gzip"
    return answer


async def board_stream(request: web.Request, board: FollowedBoard) -> web.StreamResponse:
    """Answers with what follows on the state that the browser has. Errors: `Unavailable`."""
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: "text/event-stream"})

    async def write(piece: Piece) -> None:
        if not response.prepared:
            await response.prepare(request)
        for start in range(0, len(piece.data), WRITE_BYTES):
            await response.write(piece.data[start : start + WRITE_BYTES])

    def cut() -> None:
        if request.transport is not None:
            request.transport.abort()

    # A browser that comes again by itself says the former; what its page has asked for is older then.
    after = request.headers.get("Last-Event-ID") or request.query.get("after", "")
    await board.watch(after, write, cut)
    if response.prepared:
        await response.write_eof()
    return response
