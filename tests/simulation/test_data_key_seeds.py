"""The data key is changed again and again while managers come, go, crash and are cut off: at no moment is there
a majority of them that could not open everything, and who is no manager any more knows the key no longer."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from skep.daemon.keys import KeyFiles
from skep.manager import data_key
from skep.manager.data_key import KeyAct, KeyStep
from skep.manager.resealing import HeldKeys
from skep.sim.cluster import run
from skep.sim.options import Options
from skep.sim.violation import Violation
from skep.store.view import View

pytestmark = pytest.mark.usefixtures("quiet")

SEEDS = 10  # to a test


def play(seed: int) -> int:
    """Returns how often the key was changed. Errors: `Violation`."""
    return run(Options(seed=seed, seals=True, hosts=7, incidents=24)).data_key_changes


@pytest.mark.parametrize("first", range(3000, 3020, SEEDS))
def test_everything_opens_at_every_moment(first: int) -> None:
    changes = 0
    for seed in range(first, first + SEEDS):
        try:
            changes += play(seed)
        except Violation as error:
            error.add_note(f"python -m skep.sim --seed {seed} --seals --hosts 7 --incidents 24")
            raise
    assert changes >= 2 * SEEDS, "or nothing was tried"


# The simulation finds what it is for: without each of these steps it fails.


def finds(seeds: Sequence[int]) -> str:
    for seed in seeds:
        try:
            play(seed)
        except Violation as error:
            return str(error)
    return ""


def test_a_key_that_no_majority_has_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = data_key.decide

    def hasty(*given: object) -> KeyStep:
        step = real(*given)  # type: ignore[arg-type]
        return KeyStep(KeyAct.SEAL) if "not on the disks" in step.why else step

    monkeypatch.setattr(data_key, "decide", hasty)
    assert "cannot open the swarm's record" in finds(range(3000, 3020))


def test_an_older_key_that_is_dropped_too_early_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def forgetful(held: HeldKeys, first: bytes, fence: object) -> None:
        await held.keep((first,))

    monkeypatch.setattr("skep.manager.candidate.settle", forgetful)
    found = finds(range(3000, 3020))
    assert "not all else" in found or "cannot be opened" in found


def test_a_key_that_is_handed_to_who_goes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def anybody(view: View, node_id: str) -> bool:
        return True

    monkeypatch.setattr(data_key, "is_to_manage", anybody)
    assert "know the data key" in finds(range(3000, 3040))


def test_a_copy_of_before_that_its_own_manager_does_not_open_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    take = KeyFiles.take

    def forgetful(
        self: KeyFiles, data_key: bytes, unlock_key: str, older: tuple[bytes, ...] = (), retired: bytes = b""
    ) -> None:
        take(self, data_key, unlock_key, older)

    monkeypatch.setattr(KeyFiles, "take", forgetful)
    monkeypatch.setattr("skep.sim.faults.KINDS", ("disk-hung", "deposed"))  # copies that lag behind
    assert "does not open its own copy" in finds(range(3000, 3005))
