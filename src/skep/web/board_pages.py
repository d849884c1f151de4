"""/board and /board/stream: the board as a page is told of it."""

from __future__ import annotations

from aiohttp import hdrs, web

from skep.runtime.packing import HEAD
from skep.runtime.tape import Piece
from skep.web.followed_board import FollowedBoard

WRITE_BYTES = 64 << 10  # at once: what waits for one page, whatever it is sent


async def whole_board(request: web.Request, board: FollowedBoard) -> web.StreamResponse:
    """Answers with the snapshot. Errors: `Unavailable`."""
    data, packed = await board.file()
    if not _takes_gzip(request):
        return web.Response(body=data, content_type="application/json")
    headers = {hdrs.CONTENT_ENCODING: "gzip"}
    return web.Response(body=packed, content_type="application/json", headers=headers)


async def board_stream(request: web.Request, board: FollowedBoard) -> web.StreamResponse:
    """Answers with what follows on the state that the browser has. Errors: `Unavailable`."""
    is_packed = _takes_gzip(
        request
    )  # once for all pages; it counts where somebody forwards the port (ssh -L)
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: "text/event-stream"})

    async def write(piece: Piece) -> None:
        data = piece.packed if is_packed else piece.data
        if not response.prepared:
            if is_packed:
                response.headers[hdrs.CONTENT_ENCODING] = "gzip"
                data = HEAD + data
            await response.prepare(request)
        for start in range(0, len(data), WRITE_BYTES):
            await response.write(data[start : start + WRITE_BYTES])

    def cut() -> None:
        if request.transport is not None:
            request.transport.abort()

    # A browser that comes again by itself says the former; what its page has asked for is older then.
    after = request.headers.get("Last-Event-ID") or request.query.get("after", "")
    await board.watch(after, write, cut)
    if response.prepared:
        await response.write_eof()
    return response


def _takes_gzip(request: web.Request) -> bool:
    return "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, "").lower()
