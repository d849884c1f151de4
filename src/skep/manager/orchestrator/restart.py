"""When a task that ended is replaced: Docker's RestartPolicy (Engine API 1.51, `TaskSpec.RestartPolicy`)."""

from __future__ import annotations

from collections.abc import Sequence

from skep.model.container import RestartPolicy
from skep.model.service import Service
from skep.model.states import COMPLETE
from skep.model.task import Task

SECOND_NS = 1_000_000_000
DELAY_S = 5.0  # Docker's default
OLD_TASK_TIMEOUT_S = 60.0  # SwarmKit: how long a successor waits for its predecessor to stop
WINDOW_HISTORY_MAX = 50  # attempts counted within a window; bounds what is kept per slot

FREE_ATTEMPTS = 5  # so many successors come as early as the policy says
SHORT_LIFE_S = 5.0  # what ran for longer is no crash loop
FLOOR_MIN_S, FLOOR_MAX_S = 0.5, DELAY_S  # doubled each time; nobody waits longer than with Docker's default

_DEFAULT = RestartPolicy()


def delay_s(policy: RestartPolicy | None) -> float:
    """Returns how long a failed task's successor waits."""
    if policy is None or policy.delay is None:
        return DELAY_S
    return policy.delay / SECOND_NS


def delay_max_s(service: Service) -> float:
    """Returns the longest delay that a task of the service may have been given."""
    return max(FLOOR_MAX_S, *(delay_s(t.spec.restart_policy) for t in service.templates))


def floor_s(ended: Task) -> float:
    """Returns how long the successor of a task waits at least: a slot that crashed again and again, each time
    soon, takes neither a manager's time nor a disk's with a delay of 0."""
    times = ended.attempt - FREE_ATTEMPTS
    if times < 0 or ended.updated_at - max(ended.created_at, ended.run_at) > SHORT_LIFE_S:
        return 0.0
    return min(FLOOR_MAX_S, FLOOR_MIN_S * 2.0 ** min(times, 10))


def may_restart(
    policy: RestartPolicy | None, ended: Task, siblings: Sequence[Task], now: float, is_job: bool = False
) -> bool:
    """True where the policy lets `ended` (the slot's newest task) have a successor.

    `siblings` are the slot's tasks. A job's task that succeeded has no successor: "any" is "on-failure"
    there. A task that was shut down with its node counts like a failed one for the condition, and never as an
    attempt.
    """
    policy = policy or _DEFAULT
    if policy.condition == "none":
        return False
    if (
        (is_job or policy.condition == "on-failure")
        and ended.result is not None
        and ended.result.state == COMPLETE
    ):
        return False
    if not policy.max_attempts:
        return True
    if not policy.window:
        return ended.attempt < policy.max_attempts
    # Looked back from its end, as Docker does: a slot that was given up is not taken up again by and by.
    since = (now if ended.result is None else min(now, ended.updated_at)) - policy.window / SECOND_NS
    same = [t for t in siblings if t.spec_version == ended.spec_version]
    recent = [t for t in same if t.attempt and t.created_at >= since]
    return len(recent) < policy.max_attempts


def history_limit(policy: RestartPolicy | None, limit: int) -> int:
    """Returns how many tasks a slot keeps: the swarm's limit, or what counting attempts needs."""
    if policy is None or not policy.max_attempts or not policy.window:
        return limit
    return max(limit, min(policy.max_attempts + 1, WINDOW_HISTORY_MAX))
