"""A bucket that has grown too large for one value is stored with less of what ended long ago. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from skep.model.task import Task
from skep.store.codec import encode_bucket


def fitted(tasks: Iterable[Task], most_bytes: int) -> bytes:
    """Returns the tasks of a bucket as they are stored: whole, where that fits; else what ended first is left
    its states, times and exit code only. Too large still where even that of all is."""
    listed = list(tasks)
    stored = encode_bucket(listed)
    over = len(stored) - most_bytes
    if over <= 0:
        return stored
    ended = sorted((t.updated_at, n) for n, t in enumerate(listed) if t.result is not None)
    for _, n in ended:
        if over <= 0:
            break
        over -= _texts_bytes(listed[n])
        listed[n] = _thin(listed[n])
    return encode_bucket(listed)


def _texts_bytes(task: Task) -> int:
    """Returns how much less a task takes, at least, without what `_thin` leaves out."""
    result = task.result
    assert result is not None
    texts = [result.message, result.error, result.container_id]
    for address in task.addresses:
        texts += (address.network_id, address.address, address.gateway)
    return sum(len(text) if text.isascii() else len(text.encode()) for text in texts)


def _thin(task: Task) -> Task:
    result = task.result
    assert result is not None
    few = replace(result, message="", error="", container_id="", pid=0, ports=(), started_at=0.0)
    return replace(task, result=few, generic=(), addresses=())
