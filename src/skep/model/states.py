"""Task states, in order. A task's observed state is only ever raised (SwarmKit's task model).

Who writes what: the manager sets the desired state, and the observed state up to ASSIGNED; the agent
raises the observed state from ACCEPTED on. Gaps of 64 as in SwarmKit's types.proto.
"""

from __future__ import annotations

from enum import IntEnum


class TaskState(IntEnum):
    """Observed and desired states of a task."""

    NEW = 0
    PENDING = 64
    ASSIGNED = 192
    ACCEPTED = 256
    PREPARING = 320
    READY = 384
    STARTING = 448
    RUNNING = 512
    COMPLETE = 576
    SHUTDOWN = 640
    FAILED = 704
    REJECTED = 768
    REMOVE = 800
    ORPHANED = 832


STATE_NAMES = {state.value: state.name.lower() for state in TaskState}

# As plain integers: the hot paths compare a hundred thousand of them.
NEW = TaskState.NEW.value
PENDING = TaskState.PENDING.value
ASSIGNED = TaskState.ASSIGNED.value
ACCEPTED = TaskState.ACCEPTED.value
PREPARING = TaskState.PREPARING.value
READY = TaskState.READY.value
STARTING = TaskState.STARTING.value
RUNNING = TaskState.RUNNING.value
COMPLETE = TaskState.COMPLETE.value
SHUTDOWN = TaskState.SHUTDOWN.value
FAILED = TaskState.FAILED.value
REJECTED = TaskState.REJECTED.value
REMOVE = TaskState.REMOVE.value
ORPHANED = TaskState.ORPHANED.value


def is_terminal(state: int) -> bool:
    """True once nothing runs under the task any more."""
    return state > RUNNING
