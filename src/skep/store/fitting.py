"""What an earlier skep has stored, made to fit a store that takes no more at once than ours. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from skep.model.bounds import BUCKET_MAX_BYTES, KIB, TXN_MAX_BYTES
from skep.runtime.errors import Corrupt
from skep.store import codec
from skep.store.buckets import fitted
from skep.store.interfaces import Put
from skep.store.sizes import op_bytes

ALONE_MAX_BYTES = TXN_MAX_BYTES - 1 * KIB  # beside it: a compare, and what sealing adds to the value


def fitting(puts: Iterable[Put]) -> tuple[tuple[Put, ...], tuple[Put, ...]]:
    """Returns what is to be stored, and what is left out, as one value of it does not fit.

    Tasks are left less of what ended long ago. With an object goes what would be nobody's without it: its
    name, its tasks. The swarm's own record is never left out.
    """
    kept: list[Put] = []
    large: list[Put] = []
    for put in puts:
        put = _thinned(put) if op_bytes(put) > ALONE_MAX_BYTES and codec.is_bucket(put.key) else put
        is_kept = op_bytes(put) <= ALONE_MAX_BYTES or put.key == codec.CLUSTER_KEY
        (kept if is_kept else large).append(put)
    ids = {codec.id_of(put.key) for put in large if not codec.is_bucket(put.key)}
    if not ids:
        return tuple(kept), tuple(large)
    left_out = large + [put for put in kept if _is_of(put, ids)]
    return tuple(put for put in kept if not _is_of(put, ids)), tuple(left_out)


def _thinned(put: Put) -> Put:
    try:
        return Put(put.key, fitted(codec.decode_bucket(put.key, put.value, 0), BUCKET_MAX_BYTES))
    except Corrupt:
        return put


def _is_of(put: Put, ids: set[str]) -> bool:
    """True for the name or the tasks of one of these objects."""
    if codec.is_name(put.key):
        return put.value.decode(errors="replace") in ids
    return codec.is_bucket(put.key) and codec.id_of(put.key) in ids
