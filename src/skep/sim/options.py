"""What a simulated run is made of, and what came of it."""

from __future__ import annotations

from msgspec import Struct

EXPIRY_S = 150  # longer than nobody leads: who has no leader cannot renew


class Options(Struct, frozen=True):
    """What a run is made of; all of it is printed, and nothing else influences it."""

    seed: int
    hosts: int = 12
    managers: int = 3
    period_s: float = 90.0  # of faults and work; then everything heals
    incidents: int = 18
    steps: int = 36
    fail_rate: float = 0.02
    crash_rate_per_hour: float = 2.0
    images_missing: bool = False  # of the updates that fail some are to images that are nowhere
    freezes: bool = False  # engines answer nothing for a while
    seals: bool = False  # what may hold secrets is sealed, and the data key changed
    follows: bool = False  # somebody follows logs all the time; costs as much again
    overlays: bool = False  # agents are told who is on their overlay networks
    large_overlays: bool = False  # … of which many are large
    locks: bool = False  # managers lock themselves, and are unlocked; the unlock key changes
    moves: bool = False  # machines get other addresses
    suspends: bool = False  # managers stand still for minutes
    expires: bool = False  # certificates last for minutes


class Result(Struct, frozen=True):
    """`trace` tells what happened, in order; `digest` is of the trace and the store at the end."""

    trace: list[str]
    digest: str
    converged_s: float
    data_key_changes: int = 0
