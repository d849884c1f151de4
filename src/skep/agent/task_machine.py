"""What to do next for one task: a pure table over (desired, observed, what is under way).

The agent's whole behaviour per task is here; `worker.py` performs it. States are only ever raised.
"""

from __future__ import annotations

from enum import Enum

from skep.agent.executor.interfaces import Action
from skep.model.states import ACCEPTED, READY, RUNNING, is_terminal


class Fate(Enum):
    """What the manager wants of a task on this node."""

    RUN = "run"  # up to its desired state
    STOP = "stop"  # nothing runs; the container stays for the history
    FORGET = "forget"  # nothing runs and nothing stays


def fate_of(desired_state: int) -> Fate:
    """Returns the fate that a desired state stands for."""
    return Fate.RUN if desired_state <= RUNNING else Fate.STOP


def next_action(fate: Fate, desired_state: int, observed: int, under_way: Action | None) -> Action | None:
    """Returns the action to begin now; None while one is under way or nothing is left to do.

    STOP overtakes PREPARE and START, because a user who removes a service does not wait for its image.
    """
    if fate is Fate.RUN:
        return None if under_way else _towards_running(desired_state, observed)
    if not is_terminal(observed):
        return None if under_way in (Action.STOP, Action.REMOVE) else Action.STOP
    if fate is Fate.FORGET and under_way is None:
        return Action.REMOVE
    return None


def _towards_running(desired_state: int, observed: int) -> Action | None:
    if observed <= ACCEPTED:
        return Action.PREPARE
    if observed == READY and desired_state >= RUNNING:
        return Action.START
    return None
