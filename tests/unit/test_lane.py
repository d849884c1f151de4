"""The tests' own lanes: who is to be alone is."""

from __future__ import annotations

import threading
from pathlib import Path

from tests.lane import Machine


def test_who_is_alone_keeps_the_machine_until_it_is_given_back(tmp_path: Path) -> None:
    first, other = Machine(tmp_path), Machine(tmp_path)
    first.take(alone=True)
    waiting = threading.Thread(target=other.take, args=(False,))
    waiting.start()
    first.take(alone=True)  # for the next such test
    waiting.join(0.05)
    assert waiting.is_alive()
    first.give_back()
    waiting.join(10)
    assert not waiting.is_alive()
    first.take(alone=False)  # beside the other one
    for each in (first, other):
        each.give_back()
