"""What no client sends: half requests, floods, odd paths, and a body that never ends."""

from __future__ import annotations

import random
import socket
import time

import pytest

from .target import Target, check

pytestmark = pytest.mark.timeout(300)
HEAD = b"POST /services/create HTTP/1.1\r\nHost: x\r\n"
PATHS = [
    *("/services/%00", "/services/%2f", "/services/..", "/services/%2e%2e/nodes", "/services/%ff", "/services/%ED%A0%80"),
    *("//services", "/services//", "/services/%252f", "/services/" + "a" * 4000, "/services/a%0d%0aX: y", "/%73ervices"),
    *("/v1.41//nodes", "/v99999999999/nodes", "/v1.41.1.1.1.1/nodes", "/v1.41/v1.41/nodes", "/v./nodes", "/v1./nodes"),
    *("/nodes/self/update", "/nodes/*/update?version=1", "/tasks/{id}", "/services/%7Bid%7D/logs?stdout=1"),
    *("/services?filters=%00", "/services?filters=%ff", '/services?filters={"id":[1]}', '/services?filters={"id":null}'),
    *('/services?filters={"id":{"a":1}}', '/tasks?filters={"id":[""]}', '/tasks?filters={"service":[""]}', "/tasks?filters=[]"),
    *('/nodes?filters={"label":["="]}', '/nodes?filters={"role":[]}', "/services?filters=" + "%7B%22a%22:" * 500, "/tasks?filters=1e999"),
    *("/services?status=%00", "/services?status=" + "1" * 3000, "/events?since=%00&until=1", "/events?since=1e9&until=1"),
    *("/events?since=" + "9" * 3000 + "&until=1", "/events?until=1&filters={", "/networks?filters={%22scope%22:[%22x%22]}"),
    *("/networks/%00", "/networks/..%2f..%2finfo", "/networks/create", "/secrets/%00", "/configs/%2e", "/skep/v1/%2e%2e/nodes"),
    *("/skep/v1/tasks/%00/explain", "/skep/v1/enrol", "/skep/v1/events", "/skep/v1/swarm", "/skep/v1/health", "/skep/v1/seen"),
]  # fmt: skip
QUERIES = [
    "",
    "?version=1",
    "?version=%00",
    "?version=1&version=2",
    "?rollback=previous&version=1",
    "?force=1",
]


def line_of(path: str) -> str:
    """As it would be sent, without what would end the request's first line."""
    return "".join(c if 32 < ord(c) < 127 else f"%{ord(c):02X}" for c in path)


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST", "PUT", "PATCH", "OPTIONS", "HEAD"])
def test_paths(target: Target, method: str) -> None:
    for path in PATHS:
        for query in QUERIES if "?" not in path else [""]:
            body = b"{}" if method in ("POST", "PUT", "PATCH") else None
            reply = target.ask(method, line_of(path + query), body)
            if method == "HEAD":
                assert reply.status < 504, path  # it has no body that could say why
                continue
            check(reply.status, reply.message, (method, path + query))
            assert reply.status < 400 or reply.message, (method, path)


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/xml", "application/json; charset=utf-16", "\xff", "a" * 3000]
)
def test_content_types(target: Target, kind: str) -> None:
    reply = target.ask("POST", "/services/create", b'{"Name": 1}', {"Content-Type": kind})
    assert reply.status == 400, reply.message


BODIES = {
    "nothing": HEAD + b"\r\n",
    "fewer than said": HEAD + b"Content-Length: 100\r\n\r\n{}",
    "more than said": HEAD + b"Content-Length: 2\r\n\r\n{}{}{}{}",
    "a negative length": HEAD + b"Content-Length: -1\r\n\r\n{}",
    "no number": HEAD + b"Content-Length: x\r\n\r\n{}",
    "an endless length": HEAD + b"Content-Length: " + b"9" * 400 + b"\r\n\r\n{}",
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
    "length and chunks": HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunks cut": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{}",
    "chunks that are none": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    "an endless chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}\r\n",
    "another encoding": HEAD + b"Transfer-Encoding: bogus\r\n\r\n{}",
    "compressed rubbish": HEAD + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
    "many headers": HEAD + b"".join(b"X-%d: y\r\n" % n for n in range(20_000)) + b"\r\n",
    "a long header": HEAD + b"X: " + b"y" * 1_000_000 + b"\r\n\r\n",
    "a long line": b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n\r\n",
    "a header without a colon": HEAD + b"X\r\n\r\n",
    "a NUL in a header": HEAD + b"X: a\x00b\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "another version": b"GET / HTTP/9.9\r\n\r\n",
    "an upgrade": b"POST /services/create HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n{}",
    "an upgrade of the engine's": b"POST /containers/x/attach HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
    "expects": HEAD + b"Expect: bogus\r\nContent-Length: 2\r\n\r\n{}",
    "pipelined": (b"GET /services HTTP/1.1\r\nHost: x\r\n\r\n") * 500,
    "two hosts": b"GET /services HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "a method of its own": b"BREW /services HTTP/1.1\r\nHost: x\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("what", BODIES)
def test_requests_that_are_none(target: Target, what: str) -> None:
    answer = target.raw(BODIES[what], timeout_s=3)
    for status in (b" 500 ", b" 502 "):
        assert status not in answer[:15], answer[:500]


@pytest.mark.parametrize("what", [what for what in BODIES if BODIES[what].partition(b"\r\n\r\n")[2]])
def test_bodies_that_come_after_their_heads(target: Target, what: str) -> None:
    """The request is in its handler's hands by then."""
    head, _, body = BODIES[what].partition(b"\r\n\r\n")
    answer = target.raw(head + b"\r\n\r\n", body, end=False, timeout_s=0.5)
    for status in (b" 500 ", b" 502 "):
        assert status not in answer[:15], answer[:500]
    if what == "compressed rubbish":
        assert b" 400 " in answer[:15], answer
        assert b"the request body cannot be read: " in answer


def test_random_bytes(target: Target) -> None:
    rng = random.Random(9)
    for _ in range(60 * target.factor):
        data = bytearray(HEAD + b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        assert b" 500 " not in target.raw(bytes(data), timeout_s=3)[:15], bytes(data)


def test_a_body_that_never_ends_fills_no_memory(target: Target) -> None:
    """It is refused after 2 MB; what still comes is read and forgotten, for some seconds (`unharmed` weighs)."""
    part = b"10000\r\n" + b"[" * 65536 + b"\r\n"
    with socket.create_connection(("127.0.0.1", target.port), 10) as line:
        line.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(4096):
                line.sendall(part)
        except OSError:
            return
        assert line.recv(100).startswith(b"HTTP/1.1 400 ")


def test_many_that_send_nothing_keep_nobody_out(target: Target) -> None:
    lines = [socket.create_connection(("127.0.0.1", target.port), 10) for _ in range(300)]
    try:
        for number, line in enumerate(lines):
            line.sendall(HEAD[: number % len(HEAD)])
        began = time.monotonic()
        assert target.ask("GET", "/services").status == 200
        assert time.monotonic() - began < 5
    finally:
        for line in lines:
            line.close()
