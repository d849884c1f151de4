"""A swarm's backup as a stream of bytes: all that is stored, at one revision. Pure.

    skep backup\\n
    {"format": 1, …}\\n                     the header, one line of JSON
    P <length> [[key, value], …]           blocks of keys, msgpack
    K <length> <bytes>                     at most one: what opens what is sealed in the values, opaque
    E <length> [count, sha256]             the end: how many keys, and the digest of all that came before

Logical, not etcd's files: it can be read by a skep with another layout of its store, or another store, and
what is restored is a new cluster that shares no history with the one it was taken of.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import msgspec
from msgspec import Struct

from skep.runtime.errors import Corrupt, Invalid, Unsupported
from skep.store import codec
from skep.store.interfaces import KeyValue, Put

FORMAT = 1
MAGIC = b"skep backup\n"
HEADER_MAX_BYTES = 64 << 10  # it is some 300 bytes
BLOCK_BYTES = 256 << 10  # encoded or written at once: a millisecond, and memory for one of them only
BLOCK_MAX_BYTES = 64 << 20  # one value of an earlier skep may have 16 MB
PAIRS, KEYS, END = b"P", b"K", b"E"
_HEAD = struct.Struct(">cI")


class Header(Struct, frozen=True, kw_only=True):
    """What is in a backup, as its first line says. `bytes` is the size of all keys and values."""

    format: int = FORMAT
    skep: str
    schema: int
    cluster_id: str
    created_at: float
    services: int
    tasks: int
    nodes: int
    bytes: int
    is_locked: bool = False  # what is sealed opens with the swarm's unlock key only


class Contents(Struct, frozen=True):
    """A whole backup. `keys` is empty where it has none."""

    header: Header
    pairs: tuple[Put, ...]
    keys: bytes


_encode = msgspec.msgpack.Encoder().encode
_pairs = msgspec.msgpack.Decoder(list[tuple[str, bytes]])
_end = msgspec.msgpack.Decoder(tuple[int, bytes])


def header_of(
    pairs: Iterable[KeyValue], skep: str, cluster_id: str, now: float, is_locked: bool = False
) -> Header:
    """Returns what a backup of these keys says of itself."""
    services = tasks = nodes = size = 0
    schema = codec.SCHEMA_VERSION
    for pair in pairs:
        size += len(pair.key.encode()) + len(pair.value)
        if pair.key == codec.SCHEMA_KEY:
            schema = int(pair.value)
        elif codec.is_bucket(pair.key):
            with contextlib.suppress(msgspec.MsgspecError):  # a value that cannot be read is kept as it is
                tasks += len(msgspec.msgpack.decode(pair.value, type=list[msgspec.Raw]))
        elif codec.is_service(pair.key):
            services += 1
        elif codec.is_node(pair.key):
            nodes += 1
    return Header(
        skep=skep,
        schema=schema,
        cluster_id=cluster_id,
        created_at=now,
        services=services,
        tasks=tasks,
        nodes=nodes,
        bytes=size,
        is_locked=is_locked,
    )


def write(header: Header, pairs: Iterable[KeyValue | Put], keys: bytes = b"") -> Iterator[bytes]:
    """Yields the backup in pieces of about `BLOCK_BYTES`."""
    digest = hashlib.sha256()
    count = 0
    for piece in _body(header, pairs, keys):
        digest.update(piece.data)
        count += piece.count
        yield piece.data
    yield _block(END, _encode((count, digest.digest())))


class _Piece(Struct, frozen=True):
    data: bytes
    count: int = 0


def _body(header: Header, pairs: Iterable[KeyValue | Put], keys: bytes) -> Iterator[_Piece]:
    yield _Piece(MAGIC + msgspec.json.encode(header) + b"\n")
    block: list[tuple[str, bytes]] = []
    size = 0
    for pair in pairs:
        block.append((pair.key, pair.value))
        size += len(pair.key) + len(pair.value)
        if size >= BLOCK_BYTES:
            yield _Piece(_block(PAIRS, _encode(block)), len(block))
            block, size = [], 0
    if block:
        yield _Piece(_block(PAIRS, _encode(block)), len(block))
    if keys:
        yield _Piece(_block(KEYS, keys))


def _block(kind: bytes, payload: bytes) -> bytes:
    return _HEAD.pack(kind, len(payload)) + payload


def read(stream: BinaryIO) -> Contents:
    """Returns a whole backup. Errors: `Invalid` for what is none, `Corrupt` for one that is not whole,
    `Unsupported` for one of a newer skep."""
    reader = _Reader(stream)
    header = reader.header()
    pairs: list[Put] = []
    keys = b""
    for block in reader.blocks():
        if isinstance(block, bytes):
            keys = block
        else:
            pairs += (Put(key, value) for key, value in block)
    _check_against(header, pairs)
    return Contents(header, tuple(pairs), keys)


def check(stream: BinaryIO) -> Header:
    """Reads a backup to its end and returns what it says of itself. Errors: as `read`."""
    reader = _Reader(stream)
    header = reader.header()
    for _ in reader.blocks():
        """Counted and digested by the reader."""
    return header


class _Reader:
    """Reads a stream once, from its start."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()

    def header(self) -> Header:
        start = self._stream.read(len(MAGIC))
        if start != MAGIC:
            if start and MAGIC.startswith(start):
                raise _cut()
            raise Invalid("this is not a backup of skep's: its first line is another")
        line = self._stream.readline(HEADER_MAX_BYTES)
        if not line.endswith(b"\n"):
            raise _cut()
        self._digest.update(start + line)
        try:
            found = msgspec.json.decode(line)
            number = int(found["format"])
        except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
            raise Corrupt(f"the backup's header cannot be read: {error}") from error
        if number > FORMAT:
            raise Unsupported(
                f"the backup is of format {number}, this skep knows formats up to {FORMAT}: use the skep that"
                f" wrote it ({found.get('skep', 'a newer one')})"
            )
        try:
            return msgspec.convert(found, Header)
        except msgspec.ValidationError as error:
            raise Corrupt(f"the backup's header cannot be read: {error}") from error

    def blocks(self) -> Iterator[list[tuple[str, bytes]] | bytes]:
        """Yields keys with their values, and the bytes of `KEYS`, up to the end, which is checked."""
        count = 0
        while True:
            head = self._exactly(_HEAD.size)
            kind, length = _HEAD.unpack(head)
            if kind not in (PAIRS, KEYS, END) or length > BLOCK_MAX_BYTES:
                raise Corrupt("the backup is damaged: a block of no known kind or size")
            payload = self._exactly(length)
            if kind == END:
                self._check_end(payload, count)
                return
            self._digest.update(head)
            self._digest.update(payload)
            if kind == KEYS:
                yield payload
                continue
            pairs = _decoded(payload)
            count += len(pairs)
            yield pairs

    def _check_end(self, payload: bytes, count: int) -> None:
        try:
            said, digest = _end.decode(payload)
        except msgspec.MsgspecError as error:
            raise Corrupt(f"the backup is damaged: its end cannot be read: {error}") from error
        if digest != self._digest.digest() or said != count:
            raise Corrupt("the backup is damaged: its checksum is another")
        if self._stream.read(1):
            raise Corrupt("the backup is damaged: there is more behind its end")

    def _exactly(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) != size:
            raise _cut()
        return data


def _decoded(payload: bytes) -> list[tuple[str, bytes]]:
    try:
        return _pairs.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Corrupt(f"the backup is damaged: a block cannot be read: {error}") from error


def _check_against(header: Header, pairs: list[Put]) -> None:
    """Errors: `Corrupt` for a backup that is whole and not one of a swarm."""
    codec.check_schema(str(header.schema).encode())
    foreign = next((put.key for put in pairs if not put.key.startswith(codec.PREFIX)), None)
    if foreign is not None:
        raise Corrupt(f"the backup has a key that is not a swarm's: {foreign!r}")
    if not any(put.key == codec.CLUSTER_KEY for put in pairs):
        raise Corrupt("the backup has no swarm in it")


def _cut() -> Corrupt:
    return Corrupt("the backup is not whole: it ends too early")
