"""The same commands and calls, on Docker's own swarm and on skep: what they give is the same.

A fixed part runs with every ./check, all of it by ./check --differential.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from .accepted import ACCEPTED
from .conftest import Pair
from .scenario import Scenario
from .scenarios import SCENARIOS

pytestmark = [pytest.mark.engine, pytest.mark.root, pytest.mark.timeout(180)]
WHOLE = os.environ.get("SKEP_DIFFERENTIAL") == "whole"
_met: set[str] = set()


def _parameters() -> Iterator[object]:
    for each in SCENARIOS:
        if WHOLE or not each.slow:
            yield pytest.param(each, id=each.name)


@pytest.mark.parametrize("scenario", list(_parameters()))
def test_as_in_docker_s_swarm(scenario: Scenario, pair: Pair, tmp_path: Path) -> None:
    # Docker's allocator and reaper run beside what is asked: what is not there again was a matter of time.
    unexplained = _unexplained(scenario, pair, tmp_path) and _unexplained(scenario, pair, tmp_path)
    if unexplained:
        pytest.fail(f"{scenario.name}:\n" + "\n".join(unexplained), pytrace=False)


def _unexplained(scenario: Scenario, pair: Pair, directory: Path) -> list[str]:
    """Returns the differences that nobody accepted."""
    unexplained = []
    for difference in pair.differences(scenario, directory):
        reasons = [each.what for each in ACCEPTED if each.matches(difference, pair.engine)]
        _met.update(reasons)
        if not reasons:
            unexplained.append(str(difference))
    return unexplained


@pytest.mark.skipif(not WHOLE, reason="only a whole run meets all of them")
def test_no_accepted_difference_is_out_of_date(request: pytest.FixtureRequest, pair: Pair) -> None:
    if request.config.getoption("keyword"):
        return
    wanted = [each for each in ACCEPTED if each.is_of(pair.engine) and not each.sometimes]
    assert [each.what for each in wanted if each.what not in _met] == []
