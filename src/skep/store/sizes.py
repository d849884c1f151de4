"""How much a transaction is, and how it is cut. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from skep.model.bounds import OP_BYTES, TXN_CUT_BYTES, TXN_MAX_BYTES
from skep.runtime.errors import TooLarge
from skep.store.interfaces import OPS_MAX, Delete, Put, Txn


def op_bytes(op: Put | Delete) -> int:
    """Returns what an op takes of a transaction, reckoned a little high."""
    size = OP_BYTES + len(op.key)
    return size + len(op.value) if isinstance(op, Put) else size


def txn_bytes(txn: Txn) -> int:
    """Returns what a transaction takes of a request, reckoned a little high."""
    return sum(map(op_bytes, txn.ops)) + sum(OP_BYTES + len(each.key) for each in txn.compares)


def check_txn(txn: Txn) -> None:
    """Errors: `TooLarge` for one that no store is sent, which says how large it is and may be."""
    if len(txn.ops) > OPS_MAX:
        raise TooLarge(f"a write of {len(txn.ops)} keys is more than the store takes at once ({OPS_MAX})")
    size = txn_bytes(txn)
    if size > TXN_MAX_BYTES:
        raise TooLarge(
            f"a write of {size} bytes is more than the store takes at once ({TXN_MAX_BYTES} bytes)"
        )


def cut(ops: Iterable[Put | Delete], ops_max: int = OPS_MAX) -> Iterator[Sequence[Put | Delete]]:
    """Yields the ops in their order, in parts that are transactions each: of `ops_max` ops and
    `TXN_CUT_BYTES` at most, or one op that is larger."""
    part: list[Put | Delete] = []
    size = 0
    for op in ops:
        own = op_bytes(op)
        if part and (len(part) == ops_max or size + own > TXN_CUT_BYTES):
            yield part
            part, size = [], 0
        part.append(op)
        size += own
    if part:
        yield part
